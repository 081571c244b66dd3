"""What tests of training and evaluation share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, init_seed
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import recbole_sce  # noqa: F401  (registers)


class _LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {id(leaf) for leaf in tree_leaves((args, kwargs))}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and id(leaf) not in given and not func.is_view:
                self.n_bytes = max(self.n_bytes, leaf.numel() * leaf.element_size())
        return result


@pytest.fixture
def largest_tensor() -> Callable[[], Any]:
    """Return a context manager; ``n_bytes`` of what it gives is the largest tensor made within, in bytes."""

    @contextmanager
    def measure() -> Iterator[_LargestTensor]:
        with _LargestTensor() as largest:
            yield largest

    return measure


@pytest.fixture(scope="module")
def ml_100k(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SimpleNamespace]]:
    """Return ``prepare(**config)`` -> config, model, loaders ``train``, ``valid``, ``test``; on ml-100k."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("ml-100k"))
        patch.setattr("sys.argv", ["pytest"])

        def prepare(model: str = "SASRecSCE", **settings: Any) -> SimpleNamespace:
            small = {"hidden_size": 16, "inner_size": 16, "n_layers": 1, "n_heads": 1, "loss_type": "CE-"}
            given = {
                **{"MAX_ITEM_LIST_LENGTH": 20, "train_neg_sample_args": None, "state": "ERROR", **small},
                **{"show_progress": False, "metric_decimal_place": 8, "topk": [5, 10], **settings},
            }
            config = Config(model, "ml-100k", config_dict=given)
            init_seed(config["seed"], config["reproducibility"])
            train, valid, test = data_preparation(config, create_dataset(config))
            init_seed(config["seed"], config["reproducibility"])
            made = get_model(model)(config, train._dataset).to(config["device"])
            return SimpleNamespace(config=config, model=made, train=train, valid=valid, test=test)

        yield prepare


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small products gain nothing from threads, and wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
