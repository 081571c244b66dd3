"""``recbole-sce bench``: the measurements of recbole_sce.bench."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

import typer

from recbole_sce.cli.errors import InputError
from recbole_sce.cli.loading import load_plugin

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
    """Measure each stage from a raw log to lists of recommendations, RecBole's way and ours."""
    load_plugin()
    _forward("scale", ctx.args)


@bench.command(context_settings=_OWN_ARGUMENTS)
def updates(ctx: typer.Context) -> None:
    """Compare the quality of dense and of sparse updates of the item table."""
    load_plugin()
    _forward("updates", ctx.args)


@bench.command(context_settings=_OWN_ARGUMENTS)
def quality(ctx: typer.Context) -> None:
    """Compare models and losses on real data: quality beside time and memory, run by run."""
    load_plugin()
    _forward("quality", ctx.args)


def _forward(name: str, arguments: list[str]) -> None:
    """Run ``main`` of ``recbole_sce.bench.<name>``, which is to see a command line of its own."""
    if find_spec(f"recbole_sce.bench.{name}") is None:
        raise InputError(f"there is no benchmark {name} in this installation")
    ours = sys.argv
    sys.argv = [f"recbole-sce bench {name}", *arguments]
    try:
        code = importlib.import_module(f"recbole_sce.bench.{name}").main(arguments)
    finally:
        sys.argv = ours
    raise typer.Exit(code)
