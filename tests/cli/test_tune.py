"""recbole-sce tune: what it understands, what it refuses, and killed and resumed for real."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from recbole_sce.experiments import tuning
from tests.cli.conftest import Call

pytest.importorskip("optuna", reason="searching needs the extra recbole_sce[tune]")

TINY = (
    "--dataset",
    "tiny",
    "--data_path=data",
    "--MAX_ITEM_LIST_LENGTH=10",
    "--epochs=1",
    "--load_col={'inter': ['user_id', 'item_id', 'timestamp']}",
)


@pytest.fixture
def specs(monkeypatch: pytest.MonkeyPatch, tiny_dataset: dict[str, Any]) -> list[Any]:
    """What would have been run; each trial scores its number."""
    planned: list[Any] = []

    def run(spec: Any, folder: Path, progress: Any) -> dict[str, Any]:
        planned.append(spec)
        metrics = {"mrr@10": float(len(planned))}
        return {"status": "done", "best_valid_score": float(len(planned)), "metrics": {"valid": metrics}}

    monkeypatch.setattr(tuning, "run_in_process", run)
    return planned


def test_the_shipped_space_and_overrides_reach_the_trials(call: Call, specs: list[Any]) -> None:
    outcome = call("tune", *TINY, "--max_evals", "3", "--n_layers=1")
    assert outcome.code == 0, outcome.err
    assert len(specs) == 3
    assert all(spec.model == "SASRecSCE" for spec in specs)
    assert all(spec.settings["n_layers"] == "1" for spec in specs)
    assert {"learning_rate", "mix_x", "bucket_size_y"} <= set(specs[0].settings)
    assert "best: trial 2, ndcg@10 3.0000 on validation data" in outcome.out
    assert "run it: recbole-sce run -m SASRecSCE -d tiny" in outcome.out
    folder = Path("tuning-SASRecSCE-tiny-exhaustive")
    names = {"study.log", "trials.csv", "trials.md", "trials.html", "hyper.result"}
    assert names <= {path.name for path in folder.iterdir()}


def test_recboles_options_have_their_names(call: Call, specs: list[Any]) -> None:
    Path("my.hyper").write_text("learning_rate choice [0.1,0.2]\n")
    Path("my.yaml").write_text("hidden_size: 16\n")
    outcome = call(
        "tune",
        *TINY,
        "--params_file",
        "my.hyper",
        "--config_files",
        "my.yaml",
        "--output_file",
        "my.result",
        "--display_file",
        "my.html",
    )
    assert outcome.code == 0, outcome.err
    assert {spec.settings["learning_rate"] for spec in specs} == {0.1, 0.2}
    assert specs[0].config_files == (str(Path("my.yaml").absolute()),)
    assert "learning_rate:0.2" in Path("my.result").read_text()
    assert "plotly" in Path("my.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "SASRecSEC"), "did you mean SASRecSCE"),
        (("-m", "Pop"), "recbole_sce has no space for Pop: name one by --params_file"),
        (("--params_file", "no.hyper"), "no.hyper cannot be read"),
        (("--algo", "grid"), "algorithm must be one of exhaustive, random, bayes, got 'grid'"),
        (("--pruner", "best"), "pruner must be one of median, halving, none, got 'best'"),
        (("--max_evals", "0"), "max_evals must be a whole number of at least 1, got 0"),
        (("--tool", "Ray"), "--tool is no option of this command"),
        (("--output_file", "no/where.txt"), "--output_file: the folder of no/where.txt does not exist"),
        (("--epoch=2",), "did you mean 'epochs'"),
        (("--evals", "3"), "--evals is no option of this command"),
    ],
)
def test_what_is_wrong_is_named(
    call: Call, specs: list[Any], arguments: tuple[str, ...], message: str
) -> None:
    outcome = call("tune", *TINY, *arguments)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
    assert specs == []


def test_a_search_is_not_begun_twice(call: Call, specs: list[Any]) -> None:
    assert call("tune", *TINY, "--max_evals", "1").code == 0
    outcome = call("tune", *TINY, "--max_evals", "2")
    assert outcome.code == 2
    assert "--resume" in outcome.err
    outcome = call("tune", *TINY, "--max_evals", "2", "--resume")
    assert outcome.code == 0
    assert "finished earlier, not repeated" in outcome.err
    assert len(specs) == 2


def test_a_search_without_a_finished_trial_fails(
    call: Call, specs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"status": "failed", "error": "it broke"}
    monkeypatch.setattr(tuning, "run_in_process", lambda spec, folder, progress: broken)
    outcome = call("tune", *TINY, "--max_evals", "1")
    assert outcome.code == 1
    assert "no trial ended by itself" in outcome.out
    assert "it broke" in outcome.err


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("bucket_size_y choice [16,0]", "bucket_size_y"),
        ("learing_rate choice [0.1]", "did you mean 'learning_rate'"),
        ("learning_rate uniform 1,0", "learning_rate must be two numbers LOW,HIGH with LOW < HIGH, got 1,0"),
    ],
)
def test_a_bad_space_is_refused_before_any_trial(
    call: Call, specs: list[Any], space: str, message: str
) -> None:
    Path("bad.hyper").write_text(space)
    outcome = call("tune", *TINY, "--params_file", "bad.hyper")
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
    assert specs == []


def test_without_optuna_the_error_says_what_to_install(
    call: Call, specs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    outcome = call("tune", *TINY)
    assert outcome.code == 2
    assert "pip install 'optuna>=4'" in outcome.err


@pytest.mark.slow
def test_killed_and_resumed(tiny_dataset: dict[str, Any], tmp_path: Path) -> None:
    """SIGKILL while the second trial runs: the first is there, and at the end each is there once."""
    (tmp_path / "my.hyper").write_text("learning_rate loguniform -8,-5\n")
    command = [sys.executable, "-m", "recbole_sce.cli", "tune", *TINY, "--params_file", "my.hyper"]
    command += ["--algo", "bayes", "--max_evals", "2", "--out", "out"]
    search = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 240
    while not (tmp_path / "out" / "trial-1" / "spec.json").exists():
        assert search.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    search.send_signal(signal.SIGKILL)
    search.wait()
    first = tuning.load_study(tmp_path / "out").trials
    assert [trial.state.name for trial in first] == ["COMPLETE", "RUNNING"]
    resumed = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    trials = tuning.load_study(tmp_path / "out").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    assert [trial.params for trial in trials] == [trial.params for trial in first]
    assert trials[0].params != trials[1].params
    assert trials[0].value == first[0].value


@pytest.mark.slow
def test_two_processes_work_on_one_study(tiny_dataset: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "my.hyper").write_text("learning_rate choice [0.001,0.002]\n")
    command = [sys.executable, "-m", "recbole_sce.cli", "tune", *TINY, "--params_file", "my.hyper"]
    command += ["--out", "out", "--resume"]
    workers = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    trials = tuning.load_study(tmp_path / "out").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    assert len({tuple(trial.params.values()) for trial in trials}) == 2
