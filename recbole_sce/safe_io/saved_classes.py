"""The classes whose objects a saved data set or data loader may hold."""

from __future__ import annotations

import functools
import inspect
import sys
from enum import Enum
from typing import Any

from recbole_sce.safe_io import checkpoints


def class_named(full_name: str) -> Any:
    """Return the class of that name whose objects a file may hold, or which it may mention; None if none."""
    module, _, name = full_name.rpartition(".")
    cls = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if isinstance(cls, type) and issubclass(cls, bases()) and checkpoints._full_name(cls) == full_name:
        return cls
    return checkpoints._real(full_name)


@functools.cache
def bases() -> tuple[type, ...]:
    """Return the classes whose objects, and whose subclasses' objects, a file may hold."""
    from recbole.config import Config
    from recbole.data import transform
    from recbole.data.dataloader import AbstractDataLoader, KnowledgeBasedDataLoader
    from recbole.data.dataset import Dataset
    from recbole.data.interaction import Interaction
    from recbole.sampler.sampler import AbstractSampler
    from recbole.utils import enum_type
    from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler
    from torch.utils.data.distributed import DistributedSampler

    kinds = [item for item in vars(enum_type).values() if isinstance(item, type) and item is not Enum]
    transforms = [item for item in vars(transform).values() if inspect.isclass(item)]
    return (
        Config,
        Dataset,
        Interaction,
        AbstractDataLoader,
        KnowledgeBasedDataLoader,
        AbstractSampler,
        BatchSampler,
        RandomSampler,
        SequentialSampler,
        DistributedSampler,
        *(item for item in transforms if item.__module__ == transform.__name__),
        *kinds,
    )
