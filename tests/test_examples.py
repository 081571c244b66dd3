"""The examples: on few users in this process, and nightly as a user runs them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recbole import quick_start

EXAMPLES = Path(__file__).parent.parent / "examples"


#: Users with 20 to 22 interactions, and a small encoder: the data of RecBole cut to seconds.
FEW = "--user_inter_num_interval=[20,23)"
SMALL = ("--epochs=1", "--hidden_size=16", "--inner_size=16", "--n_layers=1", "--MAX_ITEM_LIST_LENGTH=10")
#: Lists of the most active users, whom the examples name.
MOST_ACTIVE = "--user_inter_num_interval=[200,inf)"

Run = Callable[..., str]


@pytest.fixture(params=["here", pytest.param("whole", marks=pytest.mark.nightly)])
def run_example(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Return ``run(name, *arguments, whole=())``: what an example prints, in ``tmp_path``.

    It runs in this process with ``arguments``, or nightly in a fresh one with ``whole``.
    """

    if request.param == "here":
        request.getfixturevalue("runs_here")

    def here(name: str, *arguments: str, whole: tuple[str, ...] = ()) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    def fresh(name: str, *arguments: str, whole: tuple[str, ...] = ()) -> str:
        command = [sys.executable, str(EXAMPLES / name), *whole]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return here if request.param == "here" else fresh


@pytest.mark.slow
def test_quickstart(run_example: Run) -> None:
    quiet = "--show_progress=False"
    out = run_example("quickstart.py", *SMALL, FEW, quiet, whole=("--epochs=1", quiet))
    assert "SASRecSCE on ml-100k" in out
    assert "ndcg@10" in out
    assert "peak memory" in out


@pytest.fixture
def few_users(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let RecBole's quick start, here, train a small encoder on few users."""
    if "whole" not in request.node.callspec.id:
        small = dict(option.removeprefix("--").split("=") for option in (*SMALL, FEW))
        run = quick_start.run_recbole
        monkeypatch.setattr(
            quick_start,
            "run_recbole",
            lambda config_dict, **named: run(config_dict={**config_dict, **small}, **named),
        )


@pytest.mark.slow
@pytest.mark.usefixtures("few_users")
def test_demo(run_example: Run) -> None:
    small = ("--epochs=1", "--n-items=2000")
    out = run_example("demo.py", *small, whole=small)
    assert "SASRecSCE on ml-100k, 1 epochs" in out
    assert "ndcg@10" in out
    rows = [line.split() for line in out.splitlines() if "(RecBole)" in line or "SASRecSCE, SCE" in line]
    assert len(rows) == 2
    assert all(float(row[-3]) > 0 and float(row[-2]) > 0 for row in rows)  # seconds per step, per position
    assert len(out.splitlines()) <= 15


@pytest.mark.slow
def test_tune(run_example: Run, tmp_path: Path) -> None:
    pytest.importorskip("hyperopt", reason="tuning needs the extra recbole_sce[hyperopt]")
    whole = ("--epochs=1", "--train_batch_size=512", "--hidden_size=16")
    out = run_example("tune.py", *SMALL, FEW, whole=whole)
    assert "best parameters" in out
    assert (tmp_path / "tuning.txt").read_text().count("Test result") >= 1
    assert "plotly" in (tmp_path / "tuning.html").read_text()


@pytest.mark.slow
def test_search(run_example: Run, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="searching needs the extra recbole_sce[tune]")
    whole = ("--epochs=1", "--MAX_ITEM_LIST_LENGTH=5", "--hidden_size=16", "--n_layers=1", MOST_ACTIVE)
    out = run_example("search.py", *SMALL, FEW, whole=whole)
    assert [line for line in out.splitlines() if line.startswith("done")] == ["done 0", "done 1"]
    again = run_example("search.py", *SMALL, FEW, whole=whole)
    assert "resumed 2" in again
    assert "done" not in again
    assert again.splitlines()[-2:] == out.splitlines()[-2:]
    assert "'learning_rate': 0." in out.splitlines()[-2]
    assert (tmp_path / "search" / "trials.html").is_file()


@pytest.mark.slow
def test_compare(run_example: Run, tmp_path: Path) -> None:
    models = ("SASRecSCE", "Pop")
    out = run_example("compare.py", *models, *SMALL, FEW, whole=(*models, *SMALL, MOST_ACTIVE))
    assert "done SASRecSCE" in out
    rows = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")]
    assert rows[2:4] == ["SASRecSCE", "Pop"]
    assert (tmp_path / "comparison" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "written"), [("story", "story/report.html"), ("tuning", "search/trials.html")]
)
def test_notebook(name: str, written: str, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="running a notebook needs the extra recbole_sce[dev]")
    nbformat = pytest.importorskip("nbformat", reason="running a notebook needs the extra recbole_sce[dev]")
    pytest.importorskip("optuna", reason="searching needs the extra recbole_sce[tune]")
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "error"]
    assert "failed" not in str(shown)
    assert (tmp_path / written).is_file()


@pytest.mark.slow
def test_recommend(run_example: Run) -> None:
    quiet = "--show_progress=False"
    # the interval holds users 196 and 186, whom the example names
    out = run_example(
        "recommend.py", *SMALL, "--user_inter_num_interval=[39,93)", quiet, whole=(*SMALL, quiet)
    )
    *_, first, second, visitor = out.splitlines()
    assert first.startswith("user 196: ")
    assert second.startswith("user 186: ")
    assert len(first.split(", ")) == len(visitor.split(", ")) == 5


@pytest.mark.slow
@pytest.mark.nightly
def test_language_model(run_example: Run) -> None:
    pytest.importorskip("resource", reason="peak memory is read by a module that Windows lacks")
    sizes = ("--vocabulary", "2000", "--batch", "4", "--length", "8", "--width", "8", "--bucket_size_y", "64")
    out = run_example("language_model.py", "--steps", "3", *sizes, whole=("--steps", "3", *sizes))
    rows = out.split("nats/word\n")[1].splitlines()[:3]
    assert [row.split()[0] for row in rows] == ["full", "SCE,", "SCE,"]
    assert [row.split()[-5] for row in rows[:2]] == ["3", "3"]  # steps
    for row in rows:
        assert 0 < float(row.split()[-1]) < 10  # nats a word; a model that guesses has 7.6
