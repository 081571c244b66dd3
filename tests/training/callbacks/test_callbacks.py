"""In which order callbacks are entered and left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from recbole_sce.training.callbacks.base import Callback, entered


class Noting(Callback):
    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes

    @contextmanager
    def epoch(self, epoch: int, n_steps: int) -> Iterator[None]:
        self.notes.append(f"{self.name} begins {epoch} of {n_steps} steps")
        yield
        self.notes.append(f"{self.name} ends")


def test_the_last_one_is_left_first() -> None:
    notes: list[str] = []
    callbacks = [Noting("a", notes), Callback(), Noting("b", notes)]
    with entered(callback.epoch(3, 7) for callback in callbacks):
        notes.append("steps")
    assert notes == ["a begins 3 of 7 steps", "b begins 3 of 7 steps", "steps", "b ends", "a ends"]


def test_what_fails_ends_nothing_as_if_it_had_not() -> None:
    notes: list[str] = []
    with pytest.raises(KeyError), entered([Noting("a", notes).epoch(0, 1)]):
        raise KeyError
    assert notes == ["a begins 0 of 1 steps"]


def test_a_hook_does_nothing_by_itself() -> None:
    callback = Callback()
    with callback.fit(), callback.epoch(0, 1), callback.weights():
        assert callback.watched(abs) is abs
    callback.validated()
