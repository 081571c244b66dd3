"""What RecBole's public functions that take a data set, a loader or a checkpoint give, as plain data.

    python tests/contract.py DATA_PATH plugin|alone KIND[=MODEL] ...

prints one JSON object: by KIND[=MODEL], by function, what it gives for a kind of ``kinds.py``. With MODEL, a
variant of the kind's own model, that model has the weights of the kind's own, and only what a data set or a
trained model gives is asked.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import numpy as np

if sys.argv[2:3] == ["plugin"] or "pytest" in sys.modules:
    import recbole_sce  # noqa: F401

# isort: split
import kinds
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data import utils as data_utils
from recbole.data.interaction import Interaction
from recbole.quick_start import load_data_and_model, objective_function, quick_start, run, run_recbole
from recbole.utils import get_flops, get_model, get_trainer, init_seed
from recbole.utils.case_study import full_sort_scores, full_sort_topk


class _NoTable:
    def draw(self) -> str:
        return ""


def plain(value: Any) -> Any:
    """Return ``value`` as what JSON can hold, floats to six figures."""
    if isinstance(value, Interaction):
        return {field: plain(column) for field, column in sorted(value.interaction.items())}
    if isinstance(value, torch.Tensor):
        return plain(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if hasattr(value, "tocoo"):
        matrix = value.tocoo()
        return sorted(zip(matrix.row.tolist(), matrix.col.tolist(), plain(matrix.data)))
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}")
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def config_of(kind: str, data_path: str, model: str | None = None, **settings: Any) -> Config:
    own = {**kinds.settings_of(kind, data_path), **settings}
    if model is not None:
        own |= {"train_positions": "last", "recipe": "plain"}
    return Config(model or kinds.KINDS[kind][0], "shop", config_dict=own)


def of_parts(dataset: Any) -> dict[str, Any]:
    """Return what the methods of a built data set give."""
    users, items = dataset.uid_field, dataset.iid_field
    tokens = ["[PAD]", "u1", "u7"]
    got: dict[str, Any] = {
        "len": len(dataset),
        "num": {field: dataset.num(field) for field in (users, items)},
        "user_num, item_num": [dataset.user_num, dataset.item_num],
        "inter_num, sparsity": [dataset.inter_num, dataset.sparsity],
        "avg_actions": [dataset.avg_actions_of_users, dataset.avg_actions_of_items],
        "counter": dict(sorted(dataset.counter(items).items())),
        "user_counter": dict(sorted(dataset.user_counter.items())),
        "item_counter": dict(sorted(dataset.item_counter.items())),
        "token2id": dataset.token2id(users, tokens),
        "id2token": dataset.id2token(items, [0, 1, 2]),
        "get_user_feature": dataset.get_user_feature(),
        "get_item_feature": dataset.get_item_feature(),
        "inter_matrix": dataset.inter_matrix(form="csr"),
        "inter_matrix of a value": dataset.inter_matrix(form="coo", value_field="rating"),
    }
    for name in ("history_item_matrix", "history_user_matrix"):
        partners, values, lengths = getattr(dataset, name)()
        got[name] = [sorted(row) for row in partners.tolist()], values, lengths
        partners, values, lengths = getattr(dataset, name)(value_field="rating")
        pairs = [sorted(zip(*row)) for row in zip(partners.tolist(), plain(values))]
        got[f"{name} of a value"] = pairs, lengths
    everything = torch.arange(len(dataset))
    got["getitem"] = dataset[everything]
    got["join"] = dataset.join(Interaction({items: everything % dataset.item_num}))
    got["field"] = sorted(set(dataset.fields()) & {users, items, "rating", "timestamp", "kind", "age"})
    got["copy"] = len(dataset.copy(dataset.inter_feat)), dataset.copy(dataset.inter_feat)[everything[:3]]
    init_seed(1, True)
    got["split_by_ratio"] = [part[torch.arange(len(part))] for part in dataset.split_by_ratio([8, 1, 1])]
    by_user = dataset.leave_one_out(group_by=users, leave_one_mode="valid_and_test")
    got["leave_one_out"] = [part[torch.arange(len(part))] for part in by_user]
    for name, arguments in {"shuffle": {}, "sort": {"by": [items, users], "ascending": True}}.items():
        copied = dataset.copy(dataset.inter_feat[everything])
        init_seed(1, True)
        getattr(copied, name)(**arguments)
        got[name] = copied[everything]
    return got


def of_loaders(loaders: Any) -> list[Any]:
    init_seed(2, True)
    return [
        [batch if not isinstance(batch, tuple) else list(batch) for batch in loader] for loader in loaders
    ]


def contract(kind: str, data_path: str, variant: str | None = None) -> dict[str, Any]:
    """Return what each function gives, by name."""
    quick_start.get_environment = lambda config: _NoTable()  # the original waits for the load of the machine
    got: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(kind, data_path, variant, checkpoint_dir=f"{folder}/saved")
        init_seed(config["seed"], True)
        dataset = create_dataset(config)
        got["create_dataset"] = [len(dataset), plain(dataset.field2id_token)]
        train, valid, test = loaders = data_preparation(config, dataset)
        for name, part in zip(("train", "valid", "test"), loaders):
            got |= {f"{name}: {key}": value for key, value in of_parts(part.dataset).items()}
        got["data_preparation"] = of_loaders(loaders)
        samplers = data_utils.create_samplers(config, dataset, [part.dataset for part in loaders])
        got["create_samplers"] = [type(sampler).__name__ for sampler in samplers]
        other = config_of(kind, data_path, variant, checkpoint_dir=f"{folder}/other")
        init_seed(config["seed"], True)
        # Loaders of their own, since those that RecBole alone has saved shuffle otherwise afterwards.
        data_utils.save_split_dataloaders(other, data_preparation(other, create_dataset(other)))
        got["load_split_dataloaders"] = of_loaders(data_utils.load_split_dataloaders(other))
        base = kinds.KINDS[kind][0]
        init_seed(3, True)
        weights = get_model(base)(config_of(kind, data_path), train.dataset).state_dict()
        init_seed(3, True)
        model = get_model(config["model"])(config, train.dataset)
        model.load_state_dict(weights)
        got["get_flops"] = get_flops(
            model, dataset, config["device"], quick_start.getLogger(), train.transform
        )
        users = torch.tensor([1, 5, 9])
        model.eval()
        for name, loader in (("valid", valid), ("test", test)):
            got[f"{name}: full_sort_topk"] = list(full_sort_topk(users, model, loader, 3))
            got[f"{name}: full_sort_scores"] = full_sort_scores(users, model, loader).nan_to_num(neginf=-1e6)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        got["evaluate"] = trainer.evaluate(test, load_best_model=False)
        if variant is None:
            got |= of_training(trainer, kind, data_path, folder, train, valid, test)
    return {name: plain(value) for name, value in got.items()}


def of_training(
    trainer: Any, kind: str, data_path: str, folder: str, train: Any, valid: Any, test: Any
) -> dict[str, Any]:
    """Return what training and checkpoints give."""
    got: dict[str, Any] = {"fit": trainer.fit(train, valid)}
    got["evaluate of the best"] = trainer.evaluate(test)
    trainer._save_checkpoint(0, verbose=False)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.zero_()
    trainer.resume_checkpoint(trainer.saved_model_file)
    got["resume_checkpoint"] = [trainer.start_epoch, trainer.evaluate(test, load_best_model=False)]
    loaded = load_data_and_model(trainer.saved_model_file)
    again = get_trainer(loaded[0]["MODEL_TYPE"], loaded[0]["model"])(loaded[0], loaded[1])
    got["load_data_and_model"] = again.evaluate(loaded[5], load_best_model=False)
    settings = {**kinds.settings_of(kind, data_path), "checkpoint_dir": f"{folder}/runs"}
    model = kinds.KINDS[kind][0]
    got["run_recbole"] = run_recbole(model, "shop", config_dict=dict(settings))
    got["run"] = run(model, "shop", config_dict=dict(settings))
    got["objective_function"] = objective_function({**settings, "model": model, "dataset": "shop"})
    return got


if __name__ == "__main__":
    _, data, _, *asked = sys.argv
    sys.argv = sys.argv[:1]
    torch.set_num_threads(1)
    made = {}
    for one in asked:
        kind, _, variant = one.partition("=")
        made[one] = contract(kind, data, variant or None)
    print("RESULT", json.dumps(made))
