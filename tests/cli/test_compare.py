"""recbole-sce compare: what it understands, what it refuses, and once for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recbole_sce.experiments import comparison
from tests.cli.conftest import Call

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
    """What would have been run; each run fails at once."""
    planned: list[Any] = []

    def run(spec: Any, folder: Path, progress: Any) -> dict[str, Any]:
        planned.append(spec)
        return {"status": "failed", "error": "not trained here"}

    monkeypatch.setattr(comparison, "run_in_process", run)
    return planned


def test_options_and_overrides_reach_the_runs(call: Call, specs: list[Any]) -> None:
    outcome = call(
        "compare", "-m", "wide=SASRecSCE:CE, Pop", "--seeds", "3,4", "--wide.hidden_size=16", *TINY
    )
    assert [(spec.model, spec.settings["seed"]) for spec in specs] == [
        ("SASRecSCE", 3),
        ("Pop", 3),
        ("SASRecSCE", 4),
        ("Pop", 4),
    ]
    assert specs[0].settings["hidden_size"] == "16"
    assert specs[0].settings["loss_type"] == "CE"
    assert "hidden_size" not in specs[1].settings
    assert specs[1].settings["epochs"] == "1"
    assert outcome.code == 1
    assert "4 of 4 runs failed; the same command tries them again" in outcome.out
    assert "[1/4] wide, seed 3: failed: not trained here" in outcome.err
    assert Path("comparison-tiny/report.html").is_file()


def test_recboles_name_of_the_option_works(call: Call, specs: list[Any]) -> None:
    call("compare", "--model_list", "Pop,BPR", *TINY)
    assert [spec.model for spec in specs] == ["Pop", "BPR"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "SASRecSEC"), "did you mean SASRecSCE"),
        (("-m", "SASRec SCE"), "is not of the form [label=]Model[:loss]"),
        (("-m", ","), "there is nothing to compare"),
        (("--seeds", "1,two"), "--seeds must be whole numbers, got 'two'"),
        (("-m", "Pop", "--pop.epochs=2"), "no model is called pop; Pop are"),
        (("-m", "SASRecSCE", "--SASRecSCE.hiden_size=2"), "did you mean 'hidden_size'"),
        (("-m", "SASRecSCE", "--epoch=2"), "did you mean 'epochs'"),
        (("-m", "SASRecSCE", "--seed-list", "2"), "--seed-list is no option of this command"),
        (("-m", "Pop", "--config_files", "no.yaml"), "no.yaml cannot be read"),
        (("-m", "SASRec,Pop", "--clip_grad_norm=5"), "SASRec on tiny: clip_grad_norm must be null or a dict"),
        (("-m", "SASRecSCE", "--bucket_alpha=-1"), "bucket_alpha must be a number above 0, got -1"),
    ],
)
def test_what_is_wrong_is_named(
    call: Call, specs: list[Any], arguments: tuple[str, ...], message: str
) -> None:
    outcome = call("compare", *TINY, *arguments)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
    assert specs == []


def test_missing_data_are_named(call: Call, specs: list[Any]) -> None:
    outcome = call("compare", "-m", "Pop", "-d", "teeny", "--data_path=data")
    assert outcome.code == 2
    assert "data set 'teeny'" in outcome.err
    assert specs == []


@pytest.mark.slow
@pytest.mark.usefixtures("runs_here")
def test_for_real(call: Call, tiny_dataset: dict[str, Any], tmp_path: Path) -> None:
    """As a user does; the same command again has nothing to do."""
    command = ("compare", "-m", "SASRecSCE,Pop", *TINY, "--out", "out")
    outcome = call(*command)
    assert outcome.code == 0, outcome.err
    assert "| SASRecSCE | **0." in outcome.out
    assert "[2/2] Pop, seed 2020: ndcg@10 0." in outcome.err
    names = {"results.csv", "summary.csv", "summary.md", "summary.tex", "significance.csv", "report.html"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*names, "runs"}
    assert not [path for path in (tmp_path / "out" / "runs").iterdir() if path.is_dir()]
    again = call(*command)
    assert again.code == 0
    assert again.out == outcome.out
    assert again.err.count("finished earlier, not repeated") == 2
