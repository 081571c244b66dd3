"""``recbole-sce convert``: a raw log to RecBole's atomic file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from recbole_sce.cli.errors import InputError


def convert(
    source: Annotated[Path, Argument(help="csv, tsv or parquet, as it is or in gz, xz or zip.")],
    out: Annotated[Path, Option(help="Folder of data sets, RecBole's data_path.", metavar="DIR")],
    name: Annotated[str, Option(help="Name of the data set.")],
    layout: Annotated[
        str | None,
        Option(
            help="A known log: movielens-dat, movielens-csv, amazon-2014, amazon-2018, amazon-2023, gowalla."
        ),
    ] = None,
    user: Annotated[str | None, Option(help="Column of the user.  [default: user_id]")] = None,
    item: Annotated[str | None, Option(help="Column of the item.  [default: item_id]")] = None,
    time: Annotated[str | None, Option(help="Column of the time.  [default: timestamp]")] = None,
    rating: Annotated[str | None, Option(help="Column of the rating, if it is to be kept.")] = None,
    separator: Annotated[str | None, Option(help="One character.  [default: by the file's name]")] = None,
    header: Annotated[
        bool | None,
        Option(
            "--header/--no-header",
            help="Without a header, columns are positions: 0, 1, ...  [default: header]",
        ),
    ] = None,
    time_format: Annotated[
        str | None, Option(help="auto, s or ms since 1970, or iso.  [default: auto]")
    ] = None,
    member: Annotated[str | None, Option(help="File to read from a zip that holds several.")] = None,
    duplicates: Annotated[
        str, Option(help="Of one user's interactions with one item keep: all, first or last.")
    ] = "all",
    min_user: Annotated[int, Option(min=0, help="Drop users with fewer interactions, and")] = 0,
    min_item: Annotated[int, Option(min=0, help="items with fewer, until all left have enough.")] = 0,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an atomic file.")] = False,
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
        from recbole_sce.data.raw_logs import PRESETS, Layout
    except ImportError as error:
        raise InputError(str(error)) from error

    columns = dict(user=user, item=item, time=time, rating=rating)
    form = dict(separator=separator, header=header, time_format=time_format, member=member)
    given: dict[str, Any] = {key: value for key, value in {**columns, **form}.items() if value is not None}
    if layout is not None and given:
        names = ", ".join("--" + key.replace("_", "-") for key in given)
        raise InputError(f"--layout {layout} says where everything is; it cannot go with {names}")
    if header is False:
        given |= {key: _position(column) for key, column in columns.items() if column is not None}
    try:
        if layout is not None and layout not in PRESETS:
            raise InputError(f"--layout must be one of {', '.join(PRESETS)}, got {layout!r}")
        report = convert_log(
            source,
            out,
            name,
            PRESETS[layout] if layout is not None else Layout(**given),
            duplicates=duplicates,
            min_user_interactions=min_user,
            min_item_interactions=min_item,
            overwrite=overwrite,
        )
    except FileExistsError as error:
        raise InputError(str(error).replace("overwrite=True", "--overwrite")) from error
    print(report)


def _position(column: str) -> int:
    """Return the position that a column is where there is no header."""
    if not column.isdigit():
        raise InputError(f"column must be a position from 0 on with --no-header, got {column!r}")
    return int(column)
