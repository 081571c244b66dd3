from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from recbole_sce.experiments import objective_function, tune, write_trials

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra recbole_sce[ray]"),
    pytest.mark.skipif(importlib.util.find_spec("hyperopt") is None, reason="needs recbole_sce[hyperopt]"),
]


def test_two_workers_run_four_trials_and_a_search_goes_on(
    tiny_dataset: dict[str, Any], tmp_path: Path
) -> None:
    """The last combination is impossible; the journal is as long as if Hyperopt had made it."""
    space = tmp_path / "space.hyper"
    space.write_text("learning_rate choice [0.001,0.01]\nn_heads choice [2,3]\n")
    kept: list[int] = []
    given: dict[str, Any] = {
        "params_file": space,
        "settings": tiny_dataset,
        "out": tmp_path / "out",
        "tool": "Ray",
        "cpus": 2,
    }
    tuning = tune("SASRecSCE", "tiny", **given, listener=lambda event: kept.append(event.trial))
    assert [trial["status"] for trial in tuning.trials] == ["done", "failed", "done", "failed"]
    assert sorted(kept) == [0, 1, 2, 3]
    assert "not a multiple" in tuning.trials[1]["error"]
    assert [trial["params"]["learning_rate"] for trial in tuning.trials] == [0.001, 0.001, 0.01, 0.01]
    assert write_trials(tuning)["md"].is_file()

    journal = tmp_path / "out" / "trials.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:1] + [line for line in lines[1:] if json.loads(line)["trial"] != 2]))
    again = tune("SASRecSCE", "tiny", **{**given, "tool": "Hyperopt"}, resume=True)
    assert [trial["trial"] for trial in again.trials] == [0, 1, 2, 3]
    assert again.trials[2]["score"] == pytest.approx(tuning.trials[2]["score"], abs=0.02)


def test_recboles_objective_brings_the_plugin_to_a_worker() -> None:
    """A function travels by its module's name: unpickled elsewhere, it imports the plugin first."""
    import pickle

    assert b"recbole_sce.experiments.objective" in pickle.dumps(objective_function)
