"""SASRec of recbole_sce and of RecBole, as a process of :mod:`harness.peers`."""

from __future__ import annotations

import os
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from harness.peer_process import ITEM, TIME, USER, Epochs, PeerCase, hand_back_targets, seen_items

#: Users whose scores of all items are held at a time.
_ROWS = 512


def main() -> None:
    """Train, and hand back lists after each epoch."""
    case = PeerCase.from_arguments()
    os.chdir(case.folder)  # RecBole writes logs and checkpoints
    torch.set_num_threads(1)
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    import recbole_sce

    settings = {
        "data_path": case.data_path,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": case.max_length,
        "hidden_size": case.width,
        "inner_size": 4 * case.width,
        "n_layers": case.layers,
        "n_heads": case.heads,
        "train_neg_sample_args": None,
        "epochs": case.epochs,
        "eval_step": 1,
        "stopping_step": case.epochs,
        "eval_batch_size": _ROWS,
        "topk": [case.k],
        "metrics": ["NDCG"],
        "valid_metric": f"NDCG@{case.k}",
        "seed": case.seed,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    }
    if case.loss:
        settings["loss_type"] = case.loss
    if case.recipe:
        settings["recipe"] = case.recipe
    config = Config(case.model, case.dataset, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, valid_data, test_data = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, train_data.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    versions = {"package": f"recbole {version('recbole')}"}
    if case.model != "SASRec":
        versions["package"] = f"recbole_sce {recbole_sce.__version__}"
    epochs = Epochs(case, {**versions, "torch": torch.__version__})

    calculate_loss, train_epoch, valid_epoch = (
        model.calculate_loss,
        trainer._train_epoch,
        trainer._valid_epoch,
    )
    targets = (
        f"target_{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"  # of all positions, if they are there
    )

    def counted(interaction: Any) -> Any:
        all_positions = targets in interaction
        epochs.targets += int((interaction[targets] > 0).sum()) if all_positions else len(interaction)
        return calculate_loss(interaction)

    def timed(*args: Any, **kwargs: Any) -> Any:
        epochs.begin()
        loss = train_epoch(*args, **kwargs)
        epochs.end()
        return loss

    def validated(*args: Any, **kwargs: Any) -> Any:
        result = valid_epoch(*args, **kwargs)
        average = getattr(trainer, "average", None)  # of recbole_sce, which ranks with it
        with average.in_place() if average else nullcontext():
            users, lists, held_out = _lists(case, config, dataset, model, test_data)
        if epoch[0] == 1:
            hand_back_targets(case, users, held_out)
        epochs.hand_back(epoch[0], users, lists)
        epoch[0] += 1
        return result

    epoch = [1]
    model.calculate_loss, trainer._train_epoch, trainer._valid_epoch = counted, timed, validated
    trainer.fit(train_data, valid_data, saved=False, show_progress=False)


@torch.no_grad()
def _lists(case: PeerCase, config: Any, dataset: Any, model: Any, test_data: Any) -> tuple[Any, Any, Any]:
    """Return the users of the test rows, their top items without those seen, and the items held out."""
    log = case.log().sort_values([USER, TIME])
    before = log[log.duplicated(USER, keep="last")]  # all but each user's last
    user_of, item_of = (dataset.field2token_id[config[f"{kind}_ID_FIELD"]] for kind in ("USER", "ITEM"))
    seen = seen_items(
        before[USER].map(user_of).to_numpy(), before[ITEM].map(item_of).to_numpy(), dataset.user_num
    )
    model.eval()
    users, lists, held_out = [], [], []
    for interaction, _, rows, positives in test_data:
        assert (rows == torch.arange(len(interaction))).all()  # one target a row, in order
        numbers = interaction[config["USER_ID_FIELD"]].numpy()
        scores = model.full_sort_predict(interaction).view(len(numbers), -1)
        scores[:, 0] = -torch.inf
        scores[seen(numbers)] = -torch.inf
        users.append(numbers)
        lists.append(scores.topk(case.k).indices.numpy())
        held_out.append(positives.numpy())
    return (
        dataset.id2token(config["USER_ID_FIELD"], np.concatenate(users)),
        dataset.id2token(config["ITEM_ID_FIELD"], np.concatenate(lists)),
        dataset.id2token(config["ITEM_ID_FIELD"], np.concatenate(held_out)),
    )


if __name__ == "__main__":
    main()
