from __future__ import annotations

import csv
import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from harness import loss as bench
from torch.nn import functional as F

from recbole_sce.cli import loss_steps

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[2]


def case(loss: str, **changes: object) -> loss_steps.Case:
    settings = {
        "loss": loss,
        "states": 50,
        "items": 700,
        "width": 8,
        "bucket_size_y": 16,
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
        "repeats": 2,
    }
    return loss_steps.Case(**{**settings, **changes})  # type: ignore[arg-type]


def test_the_formula_with_autograd_is_the_loss() -> None:
    # Four states make four buckets of four states; with all items in each, it is exact cross-entropy.
    hidden, items = torch.randn(4, 5, dtype=torch.float64), torch.randn(30, 5, dtype=torch.float64)
    targets = torch.tensor([3, 29, 1, 3])
    actual = bench.sce_with_autograd(hidden, items, targets, 29)
    assert float(actual) == pytest.approx(
        float(F.cross_entropy(hidden @ items[1:].T, targets - 1)), rel=1e-12
    )


@pytest.mark.parametrize("contender", bench.CONTENDERS, ids=lambda one: one.name)
def test_every_loss_can_be_measured(contender: loss_steps.Contender) -> None:
    if not contender.available(CPU):
        pytest.skip("needs a GPU and a package of its own, or a newer torch")
    threads = torch.get_num_threads()
    try:
        measurement = loss_steps.measure(case(contender.name), bench.CONTENDERS)
    finally:
        torch.set_num_threads(threads)
    assert 0 < measurement.fastest <= measurement.seconds <= measurement.slowest
    assert measurement.value > 0


@pytest.mark.slow
def test_a_run_writes_a_table_and_all_that_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["SCE", "CE", "CE, F.cross_entropy"]  # in the order of the table
    arguments = ["--cases", "40x1e3", "--losses", *names, "--width", "8", "--repeats", "1"]
    files = ["--csv", str(tmp_path / "loss.csv"), "--markdown", str(tmp_path / "loss.md")]
    assert bench.main([*arguments, *files]) == 0
    with (tmp_path / "loss.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["loss"], row["states"], row["items"]) for row in rows] == [(n, "40", "1000") for n in names]
    assert all(float(row["seconds"]) > 0 for row in rows)
    (exact,) = (float(row["processor_seconds"]) for row in rows if row["loss"] == "CE")
    for row in rows:
        assert float(row["times_exact"]) == pytest.approx(float(row["processor_seconds"]) / exact, abs=1e-3)
    written = (tmp_path / "loss.md").read_text(encoding="utf-8")
    assert "python benchmarks/loss.py --cases 40x1e3" in written
    assert "| 40 | 1,000 | SCE |" in written
    assert "| 40 | 1,000 | SCE |" in capsys.readouterr().out


def test_dense_losses_beyond_the_limit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(loss_steps, "measure_apart", lambda case, *options: measured.append(case.loss))
    assert bench.main(["--cases", "1000x1000", "--max-logits", "9e5"]) == 0
    sce = ["SCE", "SCE (paper)", "SCE (paper), formula with autograd"]
    assert measured == [*sce, "CE-"]


def test_each_process_is_told_whether_to_use_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECBOLE_SCE_TRITON", "1")
    switches = {}

    def run(command: list[str], env: dict[str, str], **options: object) -> None:
        switches[json.loads(command[-1])["loss"]] = env["RECBOLE_SCE_TRITON"]
        raise subprocess.TimeoutExpired(command, 1.0)

    monkeypatch.setattr(loss_steps.subprocess, "run", run)
    for name, kernels in {"SCE (paper)": False, "SCE (paper), Triton kernels": True}.items():
        assert loss_steps.measure_apart(case(name), 1.0, bench.PROGRAM, kernels) is None
    assert switches == {"SCE (paper)": "0", "SCE (paper), Triton kernels": "1"}


def test_a_loss_that_fails_leaves_its_cells_empty() -> None:
    assert loss_steps.measure_apart(case("no such loss"), 60, bench.PROGRAM) is None
    faster = loss_steps.Measurement(0.5, 0.4, 0.6, 0.5, 10.0, 1.0, 3.0)
    slower = loss_steps.Measurement(2.0, 2.0, 2.0, 2.0, 5.0, 1.0, 3.0)
    lines = loss_steps.table([(case("a"), faster), (case("b"), slower), (case("c"), None)]).splitlines()
    assert lines[2:] == [
        "| 50 | 700 | a | 0.5000 | 10.0 | 1.0 | 1.0 |",
        "| 50 | 700 | b | 2.0000 | 5.0 | 4.0 | 0.5 |",
        "| 50 | 700 | c | - | - | - | - |",
    ]


@pytest.mark.parametrize(
    "arguments", [["--cases", "2048"], ["--cases", "0x100"], ["--losses", "FOO"], ["--dtype", "int8"]]
)
def test_bad_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(arguments)
    assert arguments[0] in capsys.readouterr().err


def test_a_picture_has_the_curves_of_one_batch_up_to_where_they_fit(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text(
        "loss,states,items,seconds,processor_seconds,extra_mib\n"
        "SCE,10,100,1,1,5\nSCE,10,1000,1,1.5,6\nCE,10,100,2,2,7\nSCE,99,100,9,9,9\nCE,10,1000,,,\n"
    )
    drawing = tmp_path / "costs.svg"
    assert bench.main(["--cases", "10x100", "--csv", str(table), "--picture", str(drawing)]) == 0
    text = drawing.read_text(encoding="utf-8")
    assert text.count(">SCE</text>") == text.count(">exact CE, streamed</text>") == 1
    assert ">exact CE of RecBole</text>" not in text


def test_the_committed_picture_is_of_the_committed_rows() -> None:
    drawing = bench.picture(ROOT / "benchmarks" / "results" / "loss-cpu.csv", 2048)
    committed = (ROOT / "docs" / "results" / "costs.svg").read_text(encoding="utf-8")
    texts = re.findall(r">([^<>]+)</text>", committed)  # the curves depend on matplotlib's version
    assert texts == re.findall(r">([^<>]+)</text>", drawing)
    assert "exact CE of RecBole" in texts


def test_a_picture_needs_the_file_to_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--picture", str(tmp_path / "costs.svg")])
    assert "--csv" in capsys.readouterr().err
