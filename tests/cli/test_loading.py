"""The program recbole-sce waits for RecBole only in commands that need it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import recbole_sce.cli.loading as module
from cli.conftest import SCRIPT
from recbole_sce.cli.errors import InputError

#: The program, in this interpreter: what it imported stands on the last line.
PROGRAM = """
import sys
from recbole_sce_command import main
sys.argv[0] = "recbole-sce"
try:
    main()
except SystemExit as end:
    print(end.code or 0, [name for name in ("torch", "recbole", "typer") if name in sys.modules])
"""


def program(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=folder, capture_output=True, text=True
    )
    return done.stdout.splitlines()[-1] if done.stdout else done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["run", "--help"], 0), (["trian"], 2), (["doctor", "--nope"], 2)],
)
def test_help_and_refusals_import_neither_torch_nor_recbole(
    arguments: list[str], code: int, tmp_path: Path
) -> None:
    assert program(tmp_path, *arguments) == f"{code} ['typer']"


def test_a_command_registers_the_models(tmp_path: Path) -> None:
    done = subprocess.run([SCRIPT, "models"], cwd=tmp_path, capture_output=True, text=True)
    assert "SASRecSCE" in done.stdout, done.stderr


def test_without_recbole_a_command_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"RecBole must be installed, got none: .*install .*recbole==1\.2\.1"
    ):
        module.load_plugin()
