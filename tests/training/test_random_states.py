"""Random states: what is drawn after they are restored is what was drawn after they were captured."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from recbole_sce.compat import safe_load, save_checkpoint
from recbole_sce.training.random_states import capture, restore


def loader(seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return SimpleNamespace(generator=generator, sampler=SimpleNamespace(generator=generator))


def drawn(loaders: list[Any]) -> list[float]:
    shuffled = [float(torch.rand((), generator=each.generator)) for each in loaders]
    # numpy keeps every second normal number for the next call
    return [random.random(), random.gauss(0, 1), np.random.normal(), float(torch.rand(())), *shuffled]  # noqa: NPY002


def test_all_sources_go_on_from_a_file(tmp_path: Path) -> None:
    loaders = [loader(1), loader(2)]
    drawn(loaders)
    save_checkpoint({"random": capture(loaders)}, tmp_path / "states.pth")
    expected = drawn(loaders)
    others = [loader(3), loader(4)]
    assert not set(drawn(others)) & set(expected)
    restore(safe_load(tmp_path / "states.pth")["random"], others)
    assert drawn(others) == expected
    assert others[0].sampler.generator is others[0].generator


def test_each_gpu_has_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    put: dict[int, Any] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: ["one", "two"])
    states = capture([])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: put.update({device: state}))
    restore(states, [])
    assert put == {0: "one"}
