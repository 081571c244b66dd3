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
def test_tune(tmp_path: Path) -> None:
    pytest.importorskip("hyperopt", reason="tuning needs the extra recbole_sce[hyperopt]")
    out = run_example("tune.py", tmp_path, "--epochs=1", "--train_batch_size=512", "--hidden_size=16")
    assert "best parameters" in out
    assert (tmp_path / "tuning.txt").read_text().count("Test result") >= 1
    assert "plotly" in (tmp_path / "tuning.html").read_text()


@pytest.mark.slow
def test_compare(tmp_path: Path) -> None:
    # few and short rows: what is tested is the comparison, not the models
    out = run_example(
        "compare.py",
        tmp_path,
        "--epochs=1",
        "--MAX_ITEM_LIST_LENGTH=5",
        "--hidden_size=16",
        "--inner_size=16",
        "--n_layers=1",
        "--embedding_size=16",
        "--train_batch_size=4096",
        "--user_inter_num_interval=[200,inf)",
    )
    table = out.splitlines()[-6:]
    assert table[0].split()[:2] == ["model", "NDCG@10"]
    assert [row.split()[0] for row in table[1:]] == ["SASRecSCE", "SASRec", "GRU4Rec", "BERT4Rec", "Pop"]
