"""Reading shell blocks of the documentation: does each command exist, with its options and keys?"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer

from docs.pages import ROOT
from recbole_sce.cli import app
from recbole_sce.cli.overrides import check_keys, parse_overrides

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef, import-not-found]

#: Programs of others, which are not looked into.
FOREIGN = ("git", "tensorboard", "uv", "optuna-dashboard")
_ROOT_COMMAND: Any = typer.main.get_command(app)


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the commands of a shell block, split into words."""
    for line in text.replace("\\\n", " ").splitlines():
        for command in line.split("&&"):
            words = shlex.split(command, comments=True)
            if words:
                yield words


def check_command(words: list[str]) -> None:
    """Check that a command exists and takes what it is given; raises whatever shows that it does not."""
    program, *arguments = words
    if program == "recbole-sce":
        check_own(arguments)
    elif program == "torchrun":
        check_own(arguments[arguments.index("recbole_sce.cli") + 1 :])
    elif program == "make":
        check_make(arguments)
    elif program == "pip":
        check_pip(arguments)
    elif program == "python":
        check_python(arguments)
    else:
        assert program in FOREIGN, f"nothing is known of {program}"


def check_own(arguments: list[str]) -> None:
    """Parse a command line of recbole-sce as it does itself, keys of settings included."""
    command = _ROOT_COMMAND
    while hasattr(command, "commands"):
        name, *arguments = arguments
        command = command.commands[name]
    if command.name == "run" and arguments[-1:] == ["--resume"]:
        arguments = [*arguments, "auto"]
    context = command.make_context(command.name, arguments)
    overrides = parse_overrides(context.args)
    keys = [key.rpartition(".")[2] for key in overrides]
    check_keys(keys, "SASRecSCE", context.params.get("dataset") or "ml-100k", [])


def check_make(arguments: list[str]) -> None:
    """Check that the Makefile has the targets and the variables."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        assert re.search(rf"^{name} " if equals else rf"^{name}:", makefile, re.MULTILINE), argument


def check_pip(arguments: list[str]) -> None:
    """Check that the extras exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        assert set(extras.split(",")) <= set(project["optional-dependencies"]), extras


def check_python(arguments: list[str]) -> None:
    """Check that the script or module is there."""
    if arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1]) is not None
    else:
        assert (ROOT / arguments[0]).is_file(), arguments[0]
