"""Each command in the documentation exists and takes what it is given; each block of settings is valid."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from recbole.config import Config

from docs.commands import check_command, command_lines
from docs.pages import PAGES, ROOT, Block, blocks, name_of
from recbole_sce.cli.errors import InputError
from recbole_sce.experiments.space import read_space

COMMANDS = [
    pytest.param(words, id=f"{name_of(page)}: {' '.join(words)[:60]}")
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
    for block in blocks(page, "shell", "")
    for words in command_lines(block.text)
    if block.language or words[0] in ("pip", "recbole-sce", "make")
]
SETTINGS = [
    pytest.param(block, id=f"{name_of(page)}: {block.text.splitlines()[0]}")
    for page in PAGES
    for block in blocks(page, "yaml")
]
SPACES = [
    pytest.param(block, id=name_of(page))
    for page in PAGES
    for block in blocks(page, "text")
    if "uniform" in block.text
]


@pytest.mark.parametrize("words", COMMANDS)
def test_the_command_is_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    check_command(words)
    assert "unknown" not in capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_shell_reads_the_commands(page: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    text = "\n".join(block.text for block in blocks(page, "shell"))
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "line",
    [
        "recbole-sce run --epoch=3",
        "recbole-sce walk",
        "make nothing",
        'pip install ".[nothing]"',
        "python benchmarks/nothing.py",
        "somebody",
    ],
)
def test_a_command_that_is_none_is_found(line: str) -> None:
    (words,) = command_lines(line)
    with pytest.raises((InputError, KeyError, AssertionError)):
        check_command(words)


@pytest.mark.parametrize("block", SETTINGS)
def test_the_settings_are_valid(block: Block, tiny_dataset: dict[str, Any], tmp_path: Path) -> None:
    settings = yaml.safe_load(block.text)
    config = Config("SASRecSCE", "tiny", config_dict={"data_path": tiny_dataset["data_path"], **settings})
    assert all(key in config for key in settings)


@pytest.mark.parametrize("block", SPACES)
def test_the_space_can_be_searched(block: Block, tmp_path: Path) -> None:
    (tmp_path / "space.hyper").write_text(block.text)
    assert read_space(tmp_path / "space.hyper").names
