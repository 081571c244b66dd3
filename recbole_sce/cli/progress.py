"""Progress of many runs: a line for each that has finished, and a moving line for the one that runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeVar

_Self = TypeVar("_Self", bound="Progress")


class Progress:
    """A context manager; where the output is no terminal, only finished runs are told."""

    def __enter__(self: _Self) -> _Self:
        from rich.console import Console

        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._status = self._console.status("starting")
        self._name = ""
        self._started = time.monotonic()
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.stop()

    def finished(self, number: int, of: int, text: str) -> None:
        """Tell that run ``number`` (from 1 on) has finished."""
        self._console.print(f"[{number}/{of}] {text}", markup=False)

    def running(self, number: int, of: int, name: str, detail: Mapping[str, Any]) -> None:
        """Tell how far run ``number`` has come.

        Args:
            number: of the run, from 1 on.
            of: how many runs there are.
            name: of the run.
            detail: what :func:`recbole_sce.experiments.process.execute` tells; empty at the start.
        """
        if name != self._name:
            self._name, self._started = name, time.monotonic()
        elapsed = time.monotonic() - self._started
        if "epoch" in detail:
            state = f"epoch {detail['epoch']} of {detail['epochs']}, validation score {detail['score']:.4f}"
        else:
            state = str(detail.get("stage", "starting"))
        self._status.update(f"[{number}/{of}] {name}: {state}, {elapsed:.0f} s".replace("[", r"\["))
