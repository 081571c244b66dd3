"""SASRec of RePlay with its cross-entropy, as a process of :mod:`harness.peers`.

https://sb-ai-lab.github.io/RePlay/pages/modules/models.html
"""

from __future__ import annotations

import copy
import os
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.callback import TorchTopItemsCallback
from replay.nn.lightning.postprocessor import SeenItemsFilter
from replay.nn.sequential import SasRec
from replay.nn.transform.template import make_default_sasrec_transforms
from replay.splitters import LastNSplitter

from harness.peer_process import ITEM, TIME, USER, Epochs, PeerCase, hand_back_targets

#: Rows a batch: of training as many as RecTools has by default, since RePlay's loaders have no default.
_TRAIN_ROWS, _TEST_ROWS = 128, 512


class EpochEnds(lightning.Callback):  # type: ignore[misc]
    """Measures epochs and keeps the weights of each end."""

    def __init__(self, epochs: Epochs) -> None:
        self._epochs = epochs
        self.weights: list[Any] = []

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Begin an epoch."""
        self._epochs.begin()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, number: int) -> None:
        """Count the targets of a batch."""
        self._epochs.targets += int(batch["target_padding_mask"].sum())

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """End an epoch."""
        self._epochs.end()
        self.weights.append(copy.deepcopy(module.state_dict()))


def _last_apart(interactions: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    splitter = LastNSplitter(
        1, divide_column=USER, query_column=USER, item_column=ITEM, timestamp_column=TIME
    )
    before, last = splitter.split(interactions)
    return before, last


def _write(interactions: pd.DataFrame, path: Path, columns: tuple[str, ...]) -> str:
    """Write a parquet file of a row a user: its number, and its items in order, once for each column."""
    rows = interactions.sort_values(["user", TIME]).groupby("user")["item"].agg(list)
    pd.DataFrame(
        {"user_id": rows.index.to_numpy(), **{name: rows.to_numpy() for name in columns}}
    ).to_parquet(path)
    return str(path)


def main() -> None:
    """Train, and hand back lists after each epoch."""
    case = PeerCase.from_arguments()
    os.chdir(case.folder)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lightning.seed_everything(case.seed)
    log = case.log()
    log["user"], user_names = pd.factorize(log[USER])
    log["item"], item_names = pd.factorize(log[ITEM])
    history, test = _last_apart(log)
    train, _ = _last_apart(history)
    hand_back_targets(case, test[USER], test[ITEM])
    n_items, longest = len(item_names), int(history.groupby("user").size().max())

    schema = TensorSchema(
        TensorFeatureInfo(
            "item_id",
            is_seq=True,
            feature_type=FeatureType.CATEGORICAL,
            embedding_dim=case.width,
            padding_value=n_items,
            cardinality=n_items,
            feature_hint=FeatureHint.ITEM_ID,
            feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
        )
    )
    folder = Path(case.folder)
    row = {"padding": n_items}
    data = ParquetModule(
        batch_size={"train": _TRAIN_ROWS, "predict": _TEST_ROWS},
        metadata={
            "train": {"user_id": {}, "item_id": {"shape": case.max_length + 1, **row}},
            "predict": {
                "user_id": {},
                "item_id": {"shape": case.max_length, **row},
                "seen_ids": {"shape": longest, **row},
            },
        },
        transforms=make_default_sasrec_transforms(schema),
        train_path=_write(train, folder / "train.parquet", ("item_id",)),
        predict_path=_write(history, folder / "history.parquet", ("item_id", "seen_ids")),
    )
    epochs = Epochs(case, {"package": f"replay-rec {version('replay-rec')}", "torch": torch.__version__})
    ends = EpochEnds(epochs)
    top = TorchTopItemsCallback(case.k, "user_id", [SeenItemsFilter(n_items)])
    module = LightningModule(
        SasRec.from_params(
            schema,
            embedding_dim=case.width,
            num_heads=case.heads,
            num_blocks=case.layers,
            max_sequence_length=case.max_length,
        )
    )
    trainer = lightning.Trainer(
        max_epochs=case.epochs,
        accelerator="cpu",
        devices=1,
        callbacks=[ends, top],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        limit_val_batches=0,
    )
    trainer.fit(module, data)
    for epoch, state in enumerate(ends.weights, 1):
        module.load_state_dict(state)
        trainer.predict(module, data, return_predictions=False)
        users, items, _ = top.get_result()
        epochs.hand_back(epoch, np.asarray(user_names)[users.numpy()], np.asarray(item_names)[items.numpy()])


if __name__ == "__main__":
    main()
