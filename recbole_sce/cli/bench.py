"""``recbole-sce bench``: the measurements of recbole_sce.bench."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec

import typer

from recbole_sce.cli.errors import InputError

#: Everything after the benchmark's name, --help included, is the benchmark's own.
_OWN_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

bench = typer.Typer(
    no_args_is_help=True,
    help="Measure time and memory on this machine.\n\nEach benchmark has options of its own: "
    "recbole-sce bench loss --help",
)


@bench.command(context_settings=_OWN_ARGUMENTS)
def loss(ctx: typer.Context) -> None:
    """Compare the losses: seconds and peak memory of a step, by size of batch and catalogue."""
    _forward("loss", ctx.args)


@bench.command(context_settings=_OWN_ARGUMENTS)
def scale(ctx: typer.Context) -> None:
    """Measure data, training and evaluation as the catalogue grows."""
    _forward("scale", ctx.args)


def _forward(name: str, arguments: list[str]) -> None:
    """Run ``python -m recbole_sce.bench.<name>`` in this process."""
    module = f"recbole_sce.bench.{name}"
    if find_spec(module) is None:
        raise InputError(f"there is no benchmark {name} in this installation")
    ours = sys.argv
    sys.argv = [f"recbole-sce bench {name}", *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sys.argv = ours
