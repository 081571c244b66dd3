"""What tests of training and evaluation share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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
