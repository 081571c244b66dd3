"""Every source of randomness that training draws from, as plain values that a checkpoint can hold."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def capture(loaders: Sequence[Any]) -> dict[str, Any]:
    """Return the states of python, numpy, torch (CPU and each CUDA device) and of ``loaders``.

    A loader of RecBole shuffles by its ``generator``, or, where that is None, by torch's.
    """
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  (what RecBole draws from)
    generators = [getattr(loader, "generator", None) for loader in loaders]
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "loaders": [None if generator is None else generator.get_state() for generator in generators],
    }


def restore(states: dict[str, Any], loaders: Sequence[Any]) -> None:
    """Put all sources back to ``states``; CUDA devices that either side lacks are left alone."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
    for loader, state in zip(loaders, states["loaders"]):
        if state is None:
            loader.generator = loader.sampler.generator = None
        elif loader.generator is not None:
            loader.generator.set_state(state)
