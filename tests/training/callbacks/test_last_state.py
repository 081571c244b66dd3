"""Where the last states of runs are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from recbole_sce.training.callbacks.last_state import last_states


def test_the_newest_state_of_the_model_is_first(tmp_path: Path) -> None:
    for age, name in enumerate(["SASRecSCE-b-last.pth", "SASRecSCE-a-last.pth", "SASRecFSCE-c-last.pth"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / "SASRecSCE-d.pth").touch()
    names = [path.name for path in last_states(tmp_path, "SASRecSCE")]
    assert names == ["SASRecSCE-b-last.pth", "SASRecSCE-a-last.pth"]


def test_a_state_that_is_deleted_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"SASRecSCE-{name}-last.pth").touch()
    is_file = Path.is_file

    def then_deleted(path: Path) -> bool:
        there = is_file(path)
        if path.name == "SASRecSCE-a-last.pth":
            path.unlink()
        return there

    monkeypatch.setattr(Path, "is_file", then_deleted)
    assert [path.name for path in last_states(tmp_path, "SASRecSCE")] == ["SASRecSCE-b-last.pth"]
