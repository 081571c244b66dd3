"""The examples, as a user runs them, with settings that end soon."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run_example(name: str, folder: Path, *arguments: str) -> str:
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], cwd=folder, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


@pytest.mark.slow
def test_quickstart(tmp_path: Path) -> None:
    out = run_example("quickstart.py", tmp_path, "--epochs=1", "--show_progress=False")
    assert "SASRecSCE on ml-100k" in out
    assert "ndcg@10" in out
    assert "peak memory" in out


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    out = run_example("demo.py", tmp_path, "--epochs=1", "--n-items=2000")
    assert "SASRecSCE on ml-100k, 1 epochs" in out
    assert "ndcg@10" in out
    rows = [line.split() for line in out.splitlines() if "(RecBole)" in line or "SASRecSCE, SCE" in line]
    assert len(rows) == 2
    assert all(float(row[-3]) > 0 and float(row[-2]) > 0 for row in rows)  # seconds per step, per position
    assert len(out.splitlines()) <= 15


@pytest.mark.slow
def test_tune(tmp_path: Path) -> None:
    pytest.importorskip("hyperopt", reason="tuning needs the extra recbole_sce[hyperopt]")
    out = run_example("tune.py", tmp_path, "--epochs=1", "--train_batch_size=512", "--hidden_size=16")
    assert "best parameters" in out
    assert (tmp_path / "tuning.txt").read_text().count("Test result") >= 1
    assert "plotly" in (tmp_path / "tuning.html").read_text()


@pytest.mark.slow
def test_search(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="searching needs the extra recbole_sce[tune]")
    small = ("--epochs=1", "--MAX_ITEM_LIST_LENGTH=5", "--hidden_size=16", "--n_layers=1")
    few = "--user_inter_num_interval=[200,inf)"
    out = run_example("search.py", tmp_path, *small, few)
    assert [line for line in out.splitlines() if line.startswith("done")] == ["done 0", "done 1"]
    again = run_example("search.py", tmp_path, *small, few)
    assert "resumed 2" in again
    assert "done" not in again
    assert again.splitlines()[-2:] == out.splitlines()[-2:]
    assert "'learning_rate': 0." in out.splitlines()[-2]
    assert (tmp_path / "search" / "trials.html").is_file()


@pytest.mark.slow
def test_compare(tmp_path: Path) -> None:
    # few and short rows: what is tested is the comparison, not the models
    out = run_example(
        "compare.py",
        tmp_path,
        *("SASRecSCE", "Pop"),
        "--epochs=1",
        "--MAX_ITEM_LIST_LENGTH=5",
        "--hidden_size=16",
        "--inner_size=16",
        "--n_layers=1",
        "--train_batch_size=4096",
        "--user_inter_num_interval=[200,inf)",
    )
    assert "done SASRecSCE" in out
    rows = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")]
    assert rows[2:4] == ["SASRecSCE", "Pop"]
    assert (tmp_path / "comparison" / "report.html").is_file()


@pytest.mark.slow
def test_story(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="running a notebook needs the extra recbole_sce[dev]")
    nbformat = pytest.importorskip("nbformat", reason="running a notebook needs the extra recbole_sce[dev]")
    notebook = nbformat.read(EXAMPLES / "story.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "error"]
    assert "SASRecSCE:SCE" in str(shown)
    assert (tmp_path / "story" / "report.html").is_file()


@pytest.mark.slow
def test_recommend(tmp_path: Path) -> None:
    small = ("--epochs=1", "--hidden_size=16", "--inner_size=16", "--n_layers=1", "--MAX_ITEM_LIST_LENGTH=10")
    out = run_example("recommend.py", tmp_path, *small, "--show_progress=False")
    *_, first, second, visitor = out.splitlines()
    assert first.startswith("user 196: ")
    assert second.startswith("user 186: ")
    assert len(first.split(", ")) == len(visitor.split(", ")) == 5


@pytest.mark.slow
def test_language_model(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="peak memory is read by a module that Windows lacks")
    sizes = ("--vocabulary", "2000", "--batch", "4", "--length", "8", "--width", "8", "--bucket_size_y", "64")
    out = run_example("language_model.py", tmp_path, "--steps", "3", *sizes)
    rows = out.split("nats/word\n")[1].splitlines()[:3]
    assert [row.split()[0] for row in rows] == ["full", "SCE,", "SCE,"]
    assert [row.split()[-5] for row in rows[:2]] == ["3", "3"]  # steps
    for row in rows:
        assert 0 < float(row.split()[-1]) < 10  # nats a word; a model that guesses has 7.6
