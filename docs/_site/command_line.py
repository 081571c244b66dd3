"""The command line as a page of the reference: ``python docs/_site/command_line.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from recbole_sce.cli import COMMANDS, app

_HEAD = """\
# Command line

<!-- Made from the code by: python docs/_site/command_line.py > docs/reference/command-line.md -->

`recbole-sce COMMAND --help` shows the same text. `--debug`, anywhere on the line, adds the traceback.
`run`, `tune` and `compare` take every [setting](settings.md) as `--key=value`. It wins over files.

| exit code | meaning |
|---|---|
| 0 | it worked |
| 1 | the run failed |
| 2 | wrong usage, settings, data or checkpoint: nothing was trained |
"""


def command_line() -> str:
    """Return the page: each command with its help, its options and its examples."""
    root: Any = typer.main.get_command(app)
    parts = [_HEAD]
    for name in COMMANDS:
        command = root.commands[name]
        if hasattr(command, "commands"):
            parts += [_section(f"{name} {child}", one) for child, one in command.commands.items()]
        else:
            parts.append(_section(name, command))
    return "\n".join(parts)


def _section(name: str, command: Any) -> str:
    parts = [f"## {name}", "", *_description(command.help or "")]
    for kind, title in (("argument", "Argument"), ("option", "Option")):
        rows = [_row(one) for one in command.params if one.param_type_name == kind and one.name != "help"]
        if rows:
            parts += ["", f"| {title} | Default | Meaning |", "|---|---|---|", *rows]
    return "\n".join(parts) + "\n"


def _description(text: str) -> Iterator[str]:
    """Yield the lines of a command's help, with its examples as a block of code."""
    description, _, examples = text.partition("Examples:")
    if not examples:
        description, _, examples = text.partition("Example:")
    yield description.strip()
    commands = re.findall(r"^ *- (.+)$", examples, flags=re.MULTILINE)
    if commands:
        yield from ("", "```shell", *commands, "```")


def _row(parameter: Any) -> str:
    text = " ".join((getattr(parameter, "help", None) or "").split())
    text, _, default = text.partition("[default: ")
    default = default.rstrip("]")
    if not default and parameter.required:
        default = "required"
    elif not default and isinstance(parameter.default, (str, int, float)):
        default = (
            {True: "yes", False: "no"}[parameter.default]
            if isinstance(parameter.default, bool)
            else f"`{parameter.default}`"
        )
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    elif parameter.metavar:
        values = parameter.metavar.strip("[]").split("|")
        names += " " + " or ".join(f"`{value}`" for value in values)
    return "| " + " | ".join(cell.strip().replace("|", "\\|") for cell in (names, default, text)) + " |"


if __name__ == "__main__":
    print(command_line(), end="")
