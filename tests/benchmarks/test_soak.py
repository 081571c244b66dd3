"""The soak itself: that it runs, and that it sees what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robustness import soak as module
from robustness.soak import Trial, check, draw_trial, soak

from recbole_sce.training import SCETrainer


def simple_trial(**settings: Any) -> Trial:
    trial = draw_trial(np.random.default_rng(0))
    plain = {
        "model": "SASRecSCE",
        "loss_type": "SCE",
        "train_positions": "auto",
        "exclude_seen": False,
        "epochs": 1,
        "sparse_item_updates": False,
        "eval_step": 1,
        "learner": "adam",
        "clip_grad_norm": None,
        "eval_args": {"split": {"LS": "valid_and_test"}, "mode": "full", "order": "TO", "group_by": "user"},
    }
    return Trial(trial.log, {**trial.settings, **plain, **settings})


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])


def test_a_trial_of_a_seed_is_always_the_same() -> None:
    first, again, other = (draw_trial(np.random.default_rng([3, number])) for number in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.slow
def test_runs_and_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = iter([simple_trial(), simple_trial(sparse_item_updates=True, loss_type="CE")])
    monkeypatch.setattr(module, "draw_trial", lambda rng: next(trials))
    lines: list[str] = []
    report = soak(minutes=60, most_trials=2, progress=lines.append)
    assert report.faults == []
    assert (report.trials, report.refused, report.kills) == (2, 1, 0)
    assert lines == ["seed 0, trial 0 (SASRecSCE): 0 faults", "seed 0, trial 1 (SASRecSCE): refused"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"ndcg@10": 1.5}, "ndcg@10 is 1.5"),
        ({"gauc": float("nan")}, "gauc is nan"),
        ({"recall@1": 0.5}, r"in chunks and dense: {'recall@1'"),
    ],
)
def test_sees_what_is_wrong(broken: dict[str, float], named: str, tmp_path: Path, monkeypatch: Any) -> None:
    evaluate = SCETrainer.evaluate
    monkeypatch.setattr(SCETrainer, "evaluate", lambda *given, **keys: {**evaluate(*given, **keys), **broken})
    faults, refused = check(simple_trial(), tmp_path)
    assert any(named in fault for fault in faults)
    assert not refused


@pytest.mark.slow
def test_sees_an_exception_and_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: Any, **keys: Any) -> None:
        raise RuntimeError("broke")

    monkeypatch.setattr(SCETrainer, "evaluate", fail)
    faults, _ = check(simple_trial(), tmp_path)
    assert faults
    assert faults[0].startswith("RuntimeError in test_soak.py")
