"""A model with its configuration and its data, as RecBole's quick start makes them, short of training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

#: An encoder that trains in a moment.
SMALL = {"hidden_size": 16, "inner_size": 16, "embedding_size": 16, "n_layers": 1, "n_heads": 1}


def prepare(model: str | type, dataset: str, settings: dict[str, Any]) -> SimpleNamespace:
    """Return ``config``, ``dataset``, ``model``, the loaders ``train``, ``valid`` and ``test``."""
    config = Config(model, dataset, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    log = create_dataset(config)
    train, valid, test = data_preparation(config, log)
    init_seed(config["seed"], config["reproducibility"])
    made = get_model(config["model"])(config, train._dataset).to(config["device"])
    return SimpleNamespace(config=config, dataset=log, model=made, train=train, valid=valid, test=test)


def prepare_trainer(model: str | type, dataset: str, settings: dict[str, Any]) -> SimpleNamespace:
    """Return what :func:`prepare` returns, and the ``trainer`` of the model."""
    made = prepare(model, dataset, settings)
    made.trainer = get_trainer(made.config["MODEL_TYPE"], made.config["model"])(made.config, made.model)
    return made
