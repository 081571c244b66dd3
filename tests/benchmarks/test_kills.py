"""Killed processes: a short campaign, and that a campaign notices what it is there to notice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from robustness.kills import differences, run_campaign, unequal

from recbole_sce.compat import safe_load, save_checkpoint


@pytest.mark.slow
@pytest.mark.nightly
def test_killed_runs_end_as_if_they_had_not_been_killed(tmp_path: Path) -> None:
    report = run_campaign(3, seed=1, folder=tmp_path)
    assert report.faults == ()
    assert report.kills == 3
    assert report.resumed >= 1
    assert report.runs >= 1

    whole, killed = tmp_path / "reference-0", tmp_path / "run-0"
    assert differences(whole, killed) == []
    best = next(path for path in (killed / "saved").glob("*.pth") if not path.name.endswith("-last.pth"))
    kept = tmp_path / "kept.pth"
    shutil.copy(best, kept)
    state = safe_load(best)
    state["state_dict"]["item_embedding.weight"][3, 3] += 1e-6
    save_checkpoint(state, best)
    assert differences(whole, killed) == ["checkpoint.state_dict.item_embedding.weight differs"]
    shutil.copy(kept, best)
    (killed / "saved" / f".{best.name}.1.tmp").touch()
    assert differences(whole, killed) == [f".{best.name}.1.tmp is left over"]


def test_what_is_unequal_is_named() -> None:
    one = {"a": torch.arange(3), "b": [1, (2.0, None)], "c": "x"}
    assert unequal(one, {"a": torch.arange(3), "b": [1, (2.0, None)], "c": "x"}, "it") == []
    other = {"a": torch.arange(3).float(), "b": [1, (2.5, None)], "c": "x"}
    assert unequal(one, other, "it") == ["it.a differs", "it.b[1][0]: 2.0 expected, 2.5 found"]
    assert len(unequal(one, {"a": one["a"]}, "it")) == 1
    assert len(unequal([1], [1, 2], "it")) == 1
