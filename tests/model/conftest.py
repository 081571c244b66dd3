"""A model with its data, as RecBole's quick start makes them, short of training."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, init_seed


@pytest.fixture
def prepared(tiny_dataset: dict[str, Any]) -> Callable[..., SimpleNamespace]:
    """Return ``prepare(model_name, **config)`` -> config, model, loaders ``train``, ``valid``, ``test``."""

    def prepare(model_name: str, **settings: Any) -> SimpleNamespace:
        config = Config(
            model_name,
            "tiny",
            config_dict={"train_neg_sample_args": None, "train_batch_size": 32, **tiny_dataset, **settings},
        )
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        train, valid, test = data_preparation(config, dataset)
        init_seed(config["seed"], config["reproducibility"])
        model = get_model(model_name)(config, train._dataset)
        return SimpleNamespace(config=config, model=model, train=train, valid=valid, test=test)

    return prepare
