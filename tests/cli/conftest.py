"""Running a command as a user does, in a process of its own or, where that is all the same, in this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from recbole_sce.cli import main

#: The command, as it has been installed.
SCRIPT = Path(sys.executable).with_name("recbole-sce")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["recbole-sce", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return Outcome(int(end.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Call:
    """Run a command in a process of its own, in ``tmp_path``."""

    def run(*arguments: object) -> Outcome:
        done = subprocess.run(
            [str(SCRIPT), *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run
