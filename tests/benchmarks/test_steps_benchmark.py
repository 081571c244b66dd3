from __future__ import annotations

import csv
import io
import json
import subprocess
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from harness import step_times, steps

from recbole_sce.data.synthetic import LogSpec


def row(case: str, checkout: str, repetition: int, **values: Any) -> steps.Row:
    shared = {"case": case, "checkout": checkout, "repetition": repetition, "items": 1000, "commit": checkout}
    return {**shared, "kind": "steps", **values}


def of_steps(case: str, checkout: str, repetition: int, time: float) -> steps.Row:
    values = {"targets_per_step": 10.0, "milliseconds_per_step": time / 100, "microseconds_per_target": time}
    return row(case, checkout, repetition, **values)


def test_the_time_of_a_target_is_of_all_steps() -> None:
    measured = {
        "users": 5,
        "items": 7,
        "step_seconds": [0.001, 0.002, 0.009],
        "step_targets": [10, 10, 100],
        "epoch_seconds": None,
        "peak_mib": 99.6,
    }
    assert steps.row_of(measured) == {
        "users": 5,
        "items": 7,
        "steps": 3,
        "milliseconds_per_step": 2.0,
        "targets_per_step": 40.0,
        "microseconds_per_target": 100.0,
        "peak_mib": 100,
    }


def test_ratios_are_of_pairs_of_one_repetition() -> None:
    rows = [
        *(of_steps("data, L = 50", "this", n, time) for n, time in enumerate((10.0, 20.0, 10.0))),
        *(of_steps("data, L = 50", "other", n, time) for n, time in enumerate((30.0, 40.0, 50.0))),
        row("data, epoch", "this", 0, kind="epoch", epoch_seconds=2.0, targets_per_step=1.0),
        row("data, epoch", "other", 0, kind="epoch", epoch_seconds=5.0, targets_per_step=1.0),
    ]
    of_pairs, of_epoch = steps.table(rows).splitlines()[2:]
    assert of_pairs.endswith("| **3.00** (2.00 to 5.00) |")
    assert of_epoch.endswith("| **2.50** (2.50 to 2.50) |")


def test_growth_compares_the_lengths_of_one_checkout() -> None:
    rows = [
        of_steps("data, L = 50", "this", 0, 10.0),
        of_steps("data, L = 200", "this", 0, 11.0),
        of_steps("data, L = 50", "other", 0, 20.0),
        of_steps("data, L = 200", "other", 0, 80.0),
        of_steps("alone, L = 50", "this", 0, 20.0),
    ]
    assert steps.growth(rows).splitlines() == ["- data, this: 1.10 times", "- data, other: 4.00 times"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "no such"], "--cases must be beginnings of toys-like"),
        (["--cases", "ml-1m", "--data-path", "nowhere"], "--data-path must have ml-1m"),
        (["--cases", "toys", "--against", "nowhere"], "--against must be a checkout"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        steps.main(arguments)
    assert message in capsys.readouterr().err


def test_a_checkout_that_is_not_the_one_imported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match="recbole_sce must come from"):
        step_times.measure({"checkout": str(tmp_path)})


@pytest.fixture
def steps_alone_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the other kinds here: a process costs seconds of imports."""
    apart = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        if command[1] != str(steps.PROGRAM) or json.loads(command[2])["kind"] == "steps":
            return apart(command, **options)
        monkeypatch.chdir(Path.cwd())  # so that this test alone works in the folder of the case
        monkeypatch.setattr("sys.argv", ["pytest"])
        output = io.StringIO()
        with redirect_stdout(output):
            step_times.main(command[2])
        return subprocess.CompletedProcess(command, 0, output.getvalue(), "")

    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.slow
@pytest.mark.usefixtures("steps_alone_in_a_process")
def test_a_run_measures_all_kinds_of_both_checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(steps.GENERATED, "toys-like", LogSpec(1500, 100, mean_length=9.0))
    settings = {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 8, "inner_size": 8}
    kinds = ("steps", "epoch", "evaluation")
    cases = tuple(steps.Case(f"toys-like, {kind}", "toys-like", kind, settings) for kind in kinds)
    monkeypatch.setattr(steps, "CASES", cases)
    files = ["--csv", str(tmp_path / "steps.csv"), "--markdown", str(tmp_path / "steps.md")]
    against = ["--against", str(steps.HERE)]
    assert steps.main(["--repetitions", "1", "--steps", "2", *against, *files]) == 0
    with (tmp_path / "steps.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(one["kind"], one["checkout"]) for one in rows] == [
        (kind, checkout) for kind in kinds for checkout in ("this", "other")
    ]
    assert all(float(one["microseconds_per_target"]) > 0 for one in rows if one["kind"] != "evaluation")
    assert all(float(one[f"{one['kind']}_seconds"]) > 0 for one in rows if one["kind"] != "steps")
    measured = (tmp_path / "steps.csv").read_text(encoding="utf-8")
    assert steps.main(["--repetitions", "1", "--steps", "2", *against, *files]) == 0
    assert (tmp_path / "steps.csv").read_text(encoding="utf-8") == measured  # nothing is measured again
    written = (tmp_path / "steps.md").read_text(encoding="utf-8")
    assert written.startswith("```\npython benchmarks/steps.py --repetitions 1")
    assert "| toys-like, epoch |" in written
