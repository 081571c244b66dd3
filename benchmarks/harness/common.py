"""What the benchmarks share: sizes on the command line, the machine in a line, and files of results."""

from __future__ import annotations

import argparse
import csv
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from recbole_sce.cli.loss_steps import parse_size
from recbole_sce.experiments import measure


def size(text: str) -> tuple[int, int]:
    """Read ``A x B`` such as ``1e7x1e6``, an argument of a command line."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def at_least(least: int) -> Callable[[str], int]:
    """Return the type of a whole number of at least ``least``, an argument of a command line."""

    def number(text: str) -> int:
        value = int(float(text))
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        return value

    return number


def add_outputs(parser: argparse.ArgumentParser, table: bool = True) -> None:
    """Add the options that name files of results."""
    if table:
        parser.add_argument("--csv", type=Path, help="also write all that was measured here")
    parser.add_argument("--markdown", type=Path, help="also write command and tables here")


def machine(device: str, threads: int) -> str:
    """Return the machine and the versions, in a line."""
    known = measure.machine()
    name = known["processor"]
    if device.startswith("cuda"):
        name = torch.cuda.get_device_name(device)
        if find_spec("triton") is not None:
            name += f", triton {version('triton')}"
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{name} ({capability}), {threads} threads, Python {known['python']}, torch {torch.__version__}, "
        f"{known['system']}"
    )


def source_commit(checkout: Path) -> str:
    """Return the last commit of a checkout that changed the package, with a + where files differ from it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(checkout), *words, "--", "recbole_sce", "properties"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return git("log", "-1", "--format=%h") + ("+" if git("status", "--porcelain") else "")


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV; none if it is not there yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write what was measured, a row a line; what a row does not have is an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def write_markdown(path: Path | None, script: str, argv: Sequence[str], text: str) -> None:
    """Write a result below the command that repeats it, if a file is named."""
    if path is not None:
        command = f"python benchmarks/{script} {shlex.join(argv)}".rstrip()
        path.write_text(f"```\n{command}\n```\n\n{text}\n", encoding="utf-8")


def arguments_of(argv: Sequence[str] | None) -> list[str]:
    """Return ``argv``, or the arguments of this process where it is None."""
    return sys.argv[1:] if argv is None else list(argv)
