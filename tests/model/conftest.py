"""A model with its data, as RecBole's quick start makes them, short of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import factory
import kinds
import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.data.transform import construct_transform
from recbole.utils import get_model, init_seed

import recbole_sce  # noqa: F401  (registers)
from recbole_sce.data.loader import SequenceDataLoader


@pytest.fixture
def prepared(tiny_dataset: dict[str, Any]) -> Callable[..., SimpleNamespace]:
    """Return ``prepare(model_name, **config)`` -> config, model, loaders ``train``, ``valid``, ``test``."""

    def prepare(model_name: str, **settings: Any) -> SimpleNamespace:
        given = {"train_neg_sample_args": None, "train_batch_size": 32, **tiny_dataset, **settings}
        return factory.prepare(model_name, "tiny", given)

    return prepare


#: Small encoders, and weights of extra losses large enough to be seen.
SMALL = {
    "MAX_ITEM_LIST_LENGTH": 10,
    "embedding_size": 16,
    "hidden_size": 16,
    "inner_size": 32,
    "kg_embedding_size": 16,
    "block_num": 1,
    "train_batch_size": 32,
    "bucket_size_y": 4,
    "n_outside": 3,  # with more, SCE would compute the exact softmax
    "show_progress": False,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
}
EXTRA_WEIGHT: dict[str, dict[str, Any]] = {
    "Caser": {"reg_weight": 0.01},
    "FOSSIL": {"reg_weight": 0.01},
    "GCSAN": {"reg_weight": 0.5},
    "HGN": {"reg_weight": [0.01, 0.02]},
    "NextItNet": {"reg_weight": 0.01},
    "SHAN": {"reg_weight": [0.01, 0.02]},
    "SINE": {"reg_loss_ratio": 0.0},
}
#: Encoders that make float32 (or complex64) tensors whatever their weights are.
SINGLE = ("BERT4Rec", "FEARec", "GCSAN", "SRGNN")
FEATURES = {
    "selected_features": ["class", "year"],
    "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class", "year"]},
}
GRAPH = {
    **kinds.GRAPH,
    "load_col": {**kinds.GRAPH["load_col"], "inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {**kinds.TIMED, "mode": "full"},
}
NEEDS: dict[str, dict[str, Any]] = {
    "FDSA": FEATURES,
    "GRU4RecF": FEATURES,
    "SASRecF": FEATURES,
    "S3Rec": {**FEATURES, "item_attribute": "class"},
    "GRU4RecKG": GRAPH,
    "KSR": GRAPH,
}


def write_data(folder: Path, n_items: int = 40, width: int = 16) -> None:
    """Write the data set ``tiny``: a log, item features, and a knowledge graph with embeddings."""
    rng = np.random.default_rng(1)
    path = folder / "tiny" / "tiny.inter"
    path.parent.mkdir(parents=True)

    def write(suffix: str, columns: str, rows: list[str]) -> None:
        path.with_suffix(f".{suffix}").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")

    def vector() -> str:
        return " ".join(f"{x:.3f}" for x in rng.standard_normal(width))

    log = []
    for user in range(60):
        item = int(rng.integers(n_items))
        for step in range(int(rng.integers(6, 22))):
            item = (item + 1) % n_items if rng.random() < 0.8 else int(rng.integers(n_items))
            log.append(f"u{user}\ti{item}\t{100 * user + step}")
    write("inter", "user_id:token\titem_id:token\ttimestamp:float", log)
    items = range(n_items)
    write(
        "item",
        "item_id:token\tclass:token_seq\tyear:token",
        [f"i{i}\tc{i % 3} c{3 + i % 4}\t{1990 + i % 5}" for i in items],
    )
    write("link", "item_id:token\tentity_id:token", [f"i{i}\te{i}" for i in items])
    write(
        "kg",
        "head_id:token\trelation_id:token\ttail_id:token",
        [f"e{i}\tr{i % 3}\te{(i + 1 + i % 3) % n_items}" for i in items],
    )
    write("ent", "ent_id:token\tent_vec:float_seq", [f"e{i}\t{vector()}" for i in items])
    write("rel", "rel_id:token\trel_vec:float_seq", [f"r{r}\t{vector()}" for r in range(3)])


class Zoo:
    """Small models over one small data set; what has been made once is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data: dict[tuple[str, str | None], Any] = {}
        write_data(folder)

    def config(self, name: str, **settings: Any) -> Config:
        base = name[: -len("SCE")] if name.endswith("SCE") else name
        if base == "S3Rec" and settings.get("train_stage") != "pretrain":
            settings = {"train_stage": "finetune", "pre_model_path": self.pretrained(), **settings}
        if name == "BERT4RecSCE" and settings.get("train_positions") == "last":
            settings = {"transform": "mask_itemseq", **settings}
        return Config(name, "tiny", config_dict={**self.settings(base), **settings})

    def settings(self, base: str) -> dict[str, Any]:
        """Return what model ``base``, or its twin, needs for data set ``tiny``."""
        fixed = {"data_path": str(self.folder), "train_neg_sample_args": None}
        return {**SMALL, **fixed, **NEEDS.get(base, {}), **EXTRA_WEIGHT.get(base, {})}

    def pretrained(self) -> str:
        """Return a file such as pre-training of S3Rec leaves, with weights of different sizes."""
        path = self.folder / "pretrained.pth"
        if not path.exists():
            config = self.config("S3Rec", train_stage="pretrain")
            model = get_model("S3Rec")(config, create_dataset(config))
            torch.save({"state_dict": model.state_dict()}, path)
        return str(path)

    def data(self, name: str, train_positions: str | None = None) -> SimpleNamespace:
        """Return the data set and loaders of model ``name``: ``dataset``, ``train``, ``valid``, ``test``."""
        key = (name, train_positions)
        if key not in self._data:
            config = self.config(name, train_positions=train_positions or "auto")
            init_seed(1, True)
            train, valid, test = data_preparation(config, create_dataset(config))
            self._data[key] = SimpleNamespace(dataset=train._dataset, train=train, valid=valid, test=test)
        return self._data[key]

    def batch(self, name: str, part: str = "train", train_positions: str | None = None) -> Interaction:
        """Return rows of all lengths: a training batch as wide as can be, or the first one of a loader."""
        init_seed(2, True)
        loader = getattr(self.data(name, train_positions), part)
        if part != "train" or not isinstance(loader, SequenceDataLoader):
            first = next(iter(loader))
            return first if part == "train" else first[0]
        rows = torch.randperm(loader.sample_size)[:32]
        return loader.transform(loader._dataset, loader._dataset.training_batch(rows))

    def model(self, name: str, **settings: Any) -> Any:
        """Return a new model over the data that its settings ask for."""
        config = self.config(name, **settings)
        dataset = self.data(name, settings.get("train_positions")).dataset
        construct_transform(config)  # as the loaders do, tells config the names of a transform's fields
        init_seed(3, True)
        return get_model(name)(config, dataset)

    def twins(self, base: str, **settings: Any) -> tuple[Any, Any]:
        """Return RecBole's model and its twin with the same weights, in float64 if possible, no dropout."""
        ours = self.model(f"{base}SCE", loss_type="CE", train_positions="last", **settings)
        models = self.model(base), ours
        for model in models:
            precise(model.eval(), base)
        with torch.no_grad():
            for parameter in models[0].parameters():
                parameter += 0.1 * torch.randn_like(parameter)  # biases, too, are then not zero
        models[1].load_state_dict(models[0].state_dict())
        return models

    def drawn(self, name: str, **settings: Any) -> Any:
        """Return a model with exact CE whose weights are zero nowhere, precise, without dropout."""
        base = name[: -len("SCE")]
        model = self.model(name, loss_type="CE", **settings).eval()
        model.load_state_dict(self.twins(base)[1].state_dict())
        precise(model, base)
        return model


def precise(model: Any, base: str) -> None:
    """Let a model compute in float64 if its encoder can."""
    if base not in SINGLE:
        model.double()
    if base == "KSR":
        model.relation_Matrix = model.relation_Matrix.double()


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole takes ``--key=value`` of the command line, here pytest's, for settings."""
    monkeypatch.setattr("sys.argv", ["pytest"])


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["pytest"])
        yield Zoo(folder)
