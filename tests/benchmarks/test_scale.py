from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("resource", reason="limits on memory are those of POSIX")
pytest.importorskip("pyarrow", reason="conversion needs the optional pyarrow")
from harness import scale
from harness.stages import SIDES, Case, Stage, StageClock

from recbole_sce.utils.memory import can_measure

needs_proc = pytest.mark.skipif(
    not can_measure(torch.device("cpu")), reason="peak memory of a process is read from Linux's /proc"
)


def case(side: str, folder: Path = Path("."), **changes: object) -> Case:
    settings = {
        "side": side,
        "folder": str(folder),
        "interactions": 2000,
        "items": 300,
        "width": 8,
        "max_length": 6,
        "train_positions": "all",
        "train_batch_size": 64,
        "eval_batch_size": 64,
        "steps": 3,
        "eval_users": 20,
        "export_users": 30,
        "k": 5,
        "threads": 1,
        "timeout": 100,
        "memory_gib": 8.0,
        "seed": 0,
    }
    return Case(**{**settings, **changes})  # type: ignore[arg-type]


@needs_proc
@pytest.mark.slow
def test_both_sides_go_through_all_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--cases", "6e3x300", "--steps", "3", "--width", "8", "--max-length", "6", "--k", "5"]
    arguments += ["--eval-users", "20", "--export-users", "30", "--memory-gib", "8", "--threads", "1"]
    arguments += ["--recbole-batch-size", "64"]
    files = ["--csv", str(tmp_path / "scale.csv"), "--markdown", str(tmp_path / "scale.md")]
    assert scale.main([*arguments, *files, "--folder", str(tmp_path)]) == 0
    with (tmp_path / "scale.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    stages = ["convert", "read the file", "parsed to loaders"]
    train, last = ["model and first step", "2 more steps"], ["evaluate", "export"]
    dense = [f"{name}, sparse_item_updates: False" for name in train]
    assert [(row["side"], row["name"]) for row in rows] == [
        ("generate", "generate"),
        *(("RecBole", name) for name in stages + train + last),
        *(("recbole_sce", name) for name in stages + dense + train + last),
    ]
    assert all(float(row["seconds"]) > 0 and not row["failure"] for row in rows)
    details = {(row["side"], row["name"]): json.loads(row["details"]) for row in rows}
    for side in SIDES:
        assert details[side, "export"]["users"] == 30
        assert details[side, "evaluate"]["users"] == 20
        step = details[side, "2 more steps"]
        assert min(step[part] for part in ("data", "forward", "backward", "optimiser")) > 0
        assert step["dense_logits_mib"] == pytest.approx(4 * 300 * step["targets"] / 2**20)
    written = (tmp_path / "scale.md").read_text(encoding="utf-8")
    assert "python benchmarks/scale.py --cases 6e3x300" in written
    assert "| 6,000 | 300 | parsed to loaders |" in written
    assert written.endswith(capsys.readouterr().out)
    assert {path.name for path in tmp_path.iterdir()} == {"scale.csv", "scale.md"}  # logs are gone


@needs_proc
@pytest.mark.slow
def test_a_process_may_not_allocate_more_than_it_is_given(tmp_path: Path) -> None:
    huge = case("generate", tmp_path, interactions=10**10, memory_gib=2.0)
    (stage,) = scale.run_apart(huge)
    assert stage.name == "generate"
    assert stage.failure.startswith("out of memory (asked for ")
    assert 0 < stage.extra_mib < 2048


@needs_proc
@pytest.mark.slow
def test_a_process_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("no,log\n", encoding="utf-8")
    (stage,) = scale.run_apart(case("recbole_sce", tmp_path))
    assert stage.name == "convert"
    assert "no (single) column 'user_id'" in stage.failure


@needs_proc
@pytest.mark.parametrize(
    ("allocate", "amount"),
    [(lambda: torch.empty(2**57), "536870912.0 GiB"), (lambda: np.empty(2**57), "1.00 EiB")],
)
def test_running_out_of_memory_ends_a_stage(
    allocate: object, amount: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not StageClock(60).attempt("large", allocate)  # type: ignore[arg-type]
    began, ended = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert began == {"began": "large"}
    assert ended["failure"] == f"out of memory (asked for {amount})"
    assert signal.alarm(0) == 0  # no limit is left behind


@needs_proc
def test_other_errors_are_not_taken_for_it() -> None:
    def work() -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        StageClock(60).attempt("broken", work)  # type: ignore[arg-type]
    signal.alarm(0)


def test_sides_stand_side_by_side() -> None:
    outcomes = [
        scale.Outcome(case("generate"), Stage("generate", 1.0, 2.0, 1.0, 0.5)),
        scale.Outcome(case("RecBole"), Stage("load", 10.0, 900.0, 600.0, 500.0)),
        scale.Outcome(case("RecBole"), Stage("train", 1.0, 900.0, 600.0, 0.0, "out of memory")),
        scale.Outcome(case("recbole_sce"), Stage("load", 0.5, 340.0, 40.0, 30.0)),
        scale.Outcome(case("recbole_sce"), Stage("train", 2.0, 340.0, 40.0, 30.0)),
        scale.Outcome(case("recbole_sce"), Stage("export", 2.0, 340.0, -0.4, 0.0)),
    ]
    assert scale.table(outcomes).splitlines()[2:] == [
        "| 2,000 | 300 | load | 10.00 s, 900 MiB (+600) | 0.50 s, 340 MiB (+40) | 20.0 | 15.0 |",
        "| 2,000 | 300 | train | out of memory | 2.00 s, 340 MiB (+40) |  |  |",
        "| 2,000 | 300 | export |  | 2.00 s, 340 MiB (+0) |  |  |",
    ]


def test_where_a_step_goes() -> None:
    parts = {"data": 0.5, "forward": 1.0, "backward": 2.0, "optimiser": 4.0}
    details = {**parts, "targets": 50, "dense_logits_mib": 1000}
    step = Stage("2 more steps, sparse", 1, 1, 14.0, 4.0, "", details)
    assert scale.step_table([scale.Outcome(case("recbole_sce"), step)]).splitlines()[2:] == [
        "| 2,000 | 300 | recbole_sce, sparse | 50 | 0.5000 s | 1.0000 s | 2.0000 s | 4.0000 s | 10 "
        "| 3,000 | 300.0 |"
    ]


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (-signal.SIGALRM, "not finished after 7 s"),
        (-signal.SIGKILL, "killed by the system, which it does where memory runs out"),
        (1, "ValueError: no"),
    ],
)
def test_ends_of_processes_are_told(code: int, failure: str) -> None:
    assert scale._end_of(code, ["Traceback", "ValueError: no"], 7) == failure


@pytest.mark.parametrize(
    "arguments", [["--cases", "1e6"], ["--cases", "0x100"], ["--sides", "FOO"], ["--steps", "1"]]
)
def test_bad_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        scale.main(arguments)
    assert arguments[0] in capsys.readouterr().err
