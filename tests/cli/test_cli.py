"""The command line as a whole, from a shell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.conftest import SCRIPT, Call
from recbole_sce.cli import COMMANDS


def test_help_lists_the_commands(call: Call) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        outcome = call(*arguments)
        assert all(name in outcome.out + outcome.err for name in COMMANDS)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "bench"])
def test_help_teaches_by_example(command: str, call: Call) -> None:
    outcome = call(command, "--help")
    assert outcome.code == 0
    assert f"recbole-sce {command}" in outcome.out.split("Example", 1)[1]


@pytest.mark.parametrize("line", ["trian", "bench los"])
def test_an_unknown_command(line: str, call: Call) -> None:
    outcome = call(*line.split())
    assert outcome.code == 2
    assert f"No such command '{line.split()[-1]}'" in outcome.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tune -m SASRecSEC", "did you mean SASRecSCE"),
        ("compare -m SASRecSEC,Pop", "did you mean SASRecSCE"),
        ("compare -m Pop -d teeny", "data set 'teeny'"),
        ("recommend none.pth", "checkpoint none.pth does not exist"),
        ("compare --seed-list 2", "--seed-list is no option of this command"),
        *((f"{command} --colour", "No such option: --colour") for command in ("models", "doctor")),
        ("recommend model.pth --colour", "No such option: --colour"),
        ("convert log.csv --colour", "No such option: --colour"),
        ("convert none.csv --out dataset --name shop", "none.csv"),
    ],
)
def test_mistakes_are_one_paragraph(line: str, message: str, call: Call, tmp_path: Path) -> None:
    outcome = call(*line.split())
    assert outcome.code == 2
    assert message in " ".join(outcome.err.replace("│", " ").split())
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


def modules_of(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run the console script; return how it ended, and what it imported."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", str(SCRIPT), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in run.stderr.splitlines()}
    assert "recbole_sce.cli" in imported
    return run, {name.split(".")[0] for name in imported} & {"torch", "recbole", "pandas"}


@pytest.mark.slow
def test_the_console_script(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu1,i1,100\n")
    pytest.importorskip("duckdb", reason="conversion needs the optional duckdb")
    run, _ = modules_of(tmp_path, "convert", "log.csv", "--out", "dataset", "--name", "shop")
    assert run.returncode == 0, run.stderr[-2000:]
    run, heavy = modules_of(tmp_path, "doctor")
    assert run.returncode == 0, run.stderr[-2000:]
    assert "found there   shop" in run.stdout
    assert heavy == {"torch", "recbole", "pandas"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), *(([command, "--help"], 0) for command in COMMANDS), (["run", "--nproc", "0"], 2)],
)
def test_help_and_wrong_usage_wait_for_no_torch(arguments: list[str], code: int, tmp_path: Path) -> None:
    run, heavy = modules_of(tmp_path, *arguments)
    assert run.returncode == code, run.stderr[-2000:]
    assert not heavy
