"""SASRec of RecTools with its softmax loss, as a process of :mod:`harness.peers`.

https://rectools.readthedocs.io/en/stable/examples/tutorials/transformers_tutorial.html
"""

from __future__ import annotations

import copy
import os
import warnings
from importlib.metadata import version
from typing import Any

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset, Interactions
from rectools.model_selection import LastNSplitter
from rectools.models import SASRecModel

from harness.peer_process import ITEM, TIME, USER, Epochs, PeerCase, hand_back_targets


class EpochEnds(Callback):  # type: ignore[misc]
    """Measures epochs and keeps the weights of each end."""

    def __init__(self, epochs: Epochs, weights: list[Any]) -> None:
        self._epochs, self._weights = epochs, weights

    def __deepcopy__(self, memo: Any) -> EpochEnds:
        return self  # the model copies its trainer

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Begin an epoch."""
        self._epochs.begin()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, number: int) -> None:
        """Count the targets of a batch."""
        self._epochs.targets += int((batch["y"] != 0).sum())

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """End an epoch."""
        self._epochs.end()
        self._weights.append(copy.deepcopy(module.torch_model.state_dict()))


def _trainer(epochs: int, callback: EpochEnds) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        min_epochs=epochs,
        accelerator="cpu",
        devices=1,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    )


def _last_apart(interactions: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    splitter = LastNSplitter(1, filter_cold_users=False, filter_cold_items=False, filter_already_seen=False)
    ((before, last, _),) = splitter.split(Interactions(interactions))
    return interactions.iloc[before].reset_index(drop=True), interactions.iloc[last].reset_index(drop=True)


def main() -> None:
    """Train, and hand back lists after each epoch."""
    case = PeerCase.from_arguments()
    os.chdir(case.folder)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    seed_everything(case.seed)
    raw = case.log()
    users, user_names = pd.factorize(raw[USER])  # the splitter wants numbers
    items, item_names = pd.factorize(raw[ITEM])
    times = pd.to_datetime(raw[TIME], unit="s")
    log = pd.DataFrame({Columns.User: users, Columns.Item: items, Columns.Weight: 1, Columns.Datetime: times})
    history, test = _last_apart(log)
    train, _ = _last_apart(history)
    hand_back_targets(case, user_names[test[Columns.User]], item_names[test[Columns.Item]])

    epochs = Epochs(case, {"package": f"rectools {version('rectools')}", "torch": torch.__version__})
    weights: list[Any] = []
    callback = EpochEnds(epochs, weights)

    def trainer() -> Trainer:  # the model wants a function with a name
        return _trainer(case.epochs, callback)

    model = SASRecModel(
        n_factors=case.width,
        n_blocks=case.layers,
        n_heads=case.heads,
        session_max_len=case.max_length,
        loss="softmax",
        get_trainer_func=trainer,
    )
    model.fit(Dataset.construct(train))
    known = Dataset.construct(history)
    for epoch, state in enumerate(weights, 1):
        model.torch_model.load_state_dict(state)
        top = model.recommend(test[Columns.User].to_numpy(), known, case.k, filter_viewed=True)
        lists = top.sort_values([Columns.User, Columns.Rank]).groupby(Columns.User)[Columns.Item].agg(list)
        epochs.hand_back(epoch, user_names[lists.index], item_names.to_numpy()[lists.to_list()])


if __name__ == "__main__":
    main()
