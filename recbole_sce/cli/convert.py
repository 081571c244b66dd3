"""``recbole-sce convert``: a raw log to RecBole's atomic file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional, Union

import typer

from recbole_sce.cli.errors import InputError


def convert(
    source: Annotated[Path, typer.Argument(help="csv, tsv or parquet, as it is or in gz, xz or zip.")],
    out: Annotated[Path, typer.Option(help="Folder of data sets, RecBole's data_path.", metavar="DIR")],
    name: Annotated[str, typer.Option(help="Name of the data set.")],
    layout: Annotated[
        Optional[str],
        typer.Option(
            help="A known log: movielens-dat, movielens-csv, amazon-2014, amazon-2018, amazon-2023, gowalla."
        ),
    ] = None,
    user: Annotated[Optional[str], typer.Option(help="Column of the user.  [default: user_id]")] = None,
    item: Annotated[Optional[str], typer.Option(help="Column of the item.  [default: item_id]")] = None,
    time: Annotated[Optional[str], typer.Option(help="Column of the time.  [default: timestamp]")] = None,
    rating: Annotated[Optional[str], typer.Option(help="Column of the rating, if it is to be kept.")] = None,
    separator: Annotated[
        Optional[str], typer.Option(help="One character.  [default: by the file's name]")
    ] = None,
    header: Annotated[
        Optional[bool],
        typer.Option(
            "--header/--no-header",
            help="Without a header, columns are positions: 0, 1, ...  [default: header]",
        ),
    ] = None,
    time_format: Annotated[
        Optional[str], typer.Option(help="auto, s or ms since 1970, or iso.  [default: auto]")
    ] = None,
    member: Annotated[Optional[str], typer.Option(help="File to read from a zip that holds several.")] = None,
    duplicates: Annotated[
        str, typer.Option(help="Of one user's interactions with one item keep: all, first or last.")
    ] = "all",
    min_user: Annotated[int, typer.Option(min=0, help="Drop users with fewer interactions, and")] = 0,
    min_item: Annotated[int, typer.Option(min=0, help="items with fewer, until all left have enough.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an atomic file.")] = False,
) -> None:
    """Convert a raw log of interactions to RecBole's atomic file, in bounded memory.

    Writes DIR/NAME/NAME.inter and prints what was read, left out and written.

    Examples:
    - recbole-sce convert ratings.dat --out dataset --name my-ml-1m --layout movielens-dat

    - recbole-sce convert clicks.csv.gz --out dataset --name shop --user visitor --item sku --time when

    - recbole-sce convert log.tsv --out dataset --name log --no-header --user 0 --item 3 --time 2 --min-user 5
    """
    try:
        from recbole_sce.data.convert import convert as convert_log
        from recbole_sce.data.raw_logs import PRESETS, ConversionError, Layout
    except ImportError as error:
        raise InputError(str(error)) from error

    given = {
        key: value
        for key, value in {
            "separator": separator,
            "header": header,
            "time_format": time_format,
            "member": member,
        }.items()
        if value is not None
    }
    positions = header is False
    columns = {
        key: _column(value, positions)
        for key, value in {"user": user, "item": item, "time": time, "rating": rating}.items()
        if value is not None
    }
    if layout is not None and (given or columns):
        raise InputError(
            f"--layout {layout} says where everything is; it cannot go with "
            f"{', '.join('--' + key.replace('_', '-') for key in (*columns, *given))}"
        )
    try:
        if layout is not None and layout not in PRESETS:
            raise InputError(f"--layout: {layout!r} is not allowed; one of {', '.join(PRESETS)} is")
        report = convert_log(
            source,
            out,
            name,
            PRESETS[layout] if layout is not None else Layout(**columns, **given),  # type: ignore[arg-type]
            duplicates=duplicates,
            min_user_interactions=min_user,
            min_item_interactions=min_item,
            overwrite=overwrite,
        )
    except ConversionError as error:
        raise InputError(str(error)) from error
    except FileExistsError as error:
        raise InputError(str(error).replace("overwrite=True", "--overwrite")) from error
    print(report)


def _column(text: str, positions: bool) -> Union[str, int]:
    """Return a column as the log has it: by name, or by position where there is no header."""
    if not positions:
        return text
    if not text.isdigit():
        raise InputError(f"column {text!r} is not allowed with --no-header; a position from 0 on is")
    return int(text)
