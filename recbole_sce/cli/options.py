"""Options that several commands have, and how often an option may be given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from typer import Option
from typer.core import TyperCommand

from recbole_sce.cli.errors import InputError

DEFAULT_MODEL, DEFAULT_DATASET = "SASRecSCE", "ml-100k"

Model = Annotated[
    str | None, Option("--model", "-m", help=f"Model, of recbole-sce models.  [default: {DEFAULT_MODEL}]")
]
Dataset = Annotated[
    str | None,
    Option("--dataset", "-d", help=f"Data set, a folder of data_path.  [default: {DEFAULT_DATASET}]"),
]
ConfigFiles = Annotated[
    list[str] | None,
    Option("--config_files", help="YAML files of settings, separated by spaces; may be repeated."),
]


class OneValueEach(TyperCommand):
    """A command that refuses a second value of an option that takes one.

    Click keeps the last value and drops the others without a word. The same value twice is no contradiction.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments twice: first to see all values, then as Click does.

        Raises:
            InputError: an option that takes one value is given several.
        """
        single: list[Any] = [
            parameter
            for parameter in self.params
            if parameter.param_type_name == "option" and not parameter.multiple
        ]
        for option in single:
            option.multiple = True
        try:
            values, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        finally:
            for option in single:
                option.multiple = False
        for option in single:
            given = [str(value) for value in dict.fromkeys(values.get(option.name) or ())]
            if len(given) > 1:
                names = "/".join([*option.opts, *option.secondary_opts])
                raise InputError(f"{names} must be given once, got {' and '.join(given)}")
        return super().parse_args(ctx, args)


def split_values(values: Iterable[str] | None, separator: str | None = ",") -> list[str]:
    """Return all that an option holds which may be repeated and whose values may be lists.

    Args:
        values: what was given, one string each time; None: nothing.
        separator: of the elements of one string; None: white space.
    """
    elements = [element.strip() for value in values or () for element in value.split(separator)]
    return [element for element in elements if element]
