"""The command line ``recbole-sce``: one module a command, each with a function of its name.

Exit codes: 0 it worked; 1 the run failed; 2 wrong usage, settings, data or checkpoint.
"""

from __future__ import annotations

import importlib
import sys
import warnings

import typer

from recbole_sce.cli import errors
from recbole_sce.cli.options import OneValueEach
from recbole_sce.cli.overrides import PASS_THROUGH, spell_out_resume

#: The commands, in the order in which the help lists them.
COMMANDS = ("run", "tune", "compare", "recommend", "convert", "bench", "models", "doctor")
#: Those whose unknown arguments are RecBole's overrides.
_WITH_OVERRIDES = ("run", "tune", "compare")

app = typer.Typer(
    name="recbole-sce",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; allowed anywhere."),
) -> None:
    """Scalable Cross-Entropy and large catalogues for RecBole.

    Begin with **recbole-sce run**: it trains and tests SASRecSCE on ml-100k, which RecBole carries.
    Any key of RecBole's or recbole_sce's configuration may follow a command as **--key=value**.
    """


def _register() -> None:
    for name in COMMANDS:
        command = getattr(importlib.import_module(f"recbole_sce.cli.{name}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            context = PASS_THROUGH if name in _WITH_OVERRIDES else {}
            app.command(name, cls=OneValueEach, context_settings=context)(command)


_register()


def main() -> None:
    """Run the command that ``sys.argv`` names; :mod:`recbole_sce_command` calls it."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    # RecBole's use of pandas, which nobody who runs a command can change.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")
    try:
        app(args=spell_out_resume(arguments), prog_name="recbole-sce")
    except Exception as error:
        sys.exit(errors.report(error, debug))
