"""Reading raw logs of interactions batch by batch: csv, tsv or parquet, in gz, xz or zip.

A file is streamed, decompression included: memory holds one batch, whatever the file's size.
"""

from __future__ import annotations

import csv
import gzip
import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Optional, Union, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

Column = Union[str, int]

#: Bytes of text, or rows of parquet, in a batch.
BLOCK_BYTES = 16 << 20
BATCH_ROWS = 500_000

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
COMPRESSIONS = (".gz", ".xz", ".zip")
TIME_FORMATS = ("auto", "s", "ms", "iso")


class ConversionError(ValueError):
    """A raw log cannot be converted; the message names file, column and what is allowed."""


@dataclass(frozen=True)
class Layout:
    """Where a raw log keeps users, items and times.

    Attributes:
        user: column of the user: its name in the header, or its position from 0 where there is none.
        item: column of the item.
        time: column of the time.
        rating: column of the rating; None: the atomic file gets none.
        separator: one character between columns; None: by the file's suffix (.csv, .tsv).
        header: whether the first line names the columns.
        time_format: ``s`` or ``ms`` since 1970, ``iso`` (2010-10-19T23:55:27Z, zone and time of day
            optional, without zone UTC), or ``auto``: ISO or numbers, whichever the file begins with, and
            numbers from 1e11 on are milliseconds (as seconds they would lie beyond the year 5000).
        member: file to read from a zip archive that holds several.
    """

    user: Column = "user_id"
    item: Column = "item_id"
    time: Column = "timestamp"
    rating: Optional[Column] = None
    separator: Optional[str] = None
    header: bool = True
    time_format: str = "auto"
    member: Optional[str] = None

    def __post_init__(self) -> None:
        for kind, column in self.columns().items():
            if isinstance(column, str) and not self.header:
                raise ConversionError(
                    f"{kind}: {column!r} is not allowed; without a header a column is a position: 0, 1, ..."
                )
        if self.separator is not None and len(self.separator) != 1:
            raise ConversionError(f"separator: {self.separator!r} is not allowed; one character is")
        if self.time_format not in TIME_FORMATS:
            raise ConversionError(
                f"time_format: {self.time_format!r} is not allowed; one of {', '.join(TIME_FORMATS)} is"
            )

    def columns(self) -> dict[str, Column]:
        """Return the columns to read, by what they hold."""
        named = {"user": self.user, "item": self.item, "time": self.time, "rating": self.rating}
        return {kind: column for kind, column in named.items() if column is not None}


#: Layouts of well-known logs, by name.
PRESETS = {
    # UserID::MovieID::Rating::Timestamp, read as columns between single colons: every second one is empty
    "movielens-dat": Layout(0, 2, 6, 4, separator=":", header=False, time_format="s", member="ratings.dat"),
    "movielens-csv": Layout(
        "userId", "movieId", "timestamp", "rating", separator=",", time_format="s", member="ratings.csv"
    ),
    # ratings only: user, item, rating, timestamp
    "amazon-2014": Layout(0, 1, 3, 2, separator=",", header=False, time_format="s"),
    # ratings only: item, user, rating, timestamp
    "amazon-2018": Layout(1, 0, 3, 2, separator=",", header=False, time_format="s"),
    # rating_only: user_id,parent_asin,rating,timestamp
    "amazon-2023": Layout("user_id", "parent_asin", "timestamp", "rating", separator=",", time_format="ms"),
    # user, time, latitude, longitude, location
    "gowalla": Layout(0, 4, 1, separator="\t", header=False, time_format="iso"),
}


class InvalidRows:
    """Counts rows with too many or too few columns, which the parser hands out one by one."""

    def __init__(self) -> None:
        self.count = 0
        self.example = ""

    def __call__(self, row: Any) -> str:
        """Count the row and tell the parser to go on without it."""
        self.count += 1
        self.example = (
            self.example or f"{row.text!r} ({row.actual_columns} instead of {row.expected_columns})"
        )
        return "skip"


def read_batches(path: Path, layout: Layout, invalid: InvalidRows) -> Iterator[pa.RecordBatch]:
    """Yield the log in batches with columns ``user``, ``item``, ``time`` and, if asked for, ``rating``.

    Text files give text (large_string), parquet files what they hold. Rows of text with a wrong number of
    columns are left out and counted in ``invalid``; empty lines are no rows.

    Raises:
        ConversionError: no such file, column or archive member, or a file that cannot be parsed.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    parquet = ".parquet" in suffixes[-2:]
    try:
        with _open(path, layout.member) as file:
            if parquet:
                yield from _parquet_batches(file, path, layout)
                return
        separator = layout.separator or _separator_by_suffix(path, suffixes)
        yield from _text_batches(path, replace(layout, separator=separator), invalid)
    except (pa.ArrowInvalid, EOFError, OSError, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise ConversionError(f"{path}: no such file") from error
        raise ConversionError(f"{path} cannot be read: {error}") from error


@contextmanager
def _open(path: Path, member: Optional[str]) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, decompressed on the way."""
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        suffix = path.suffix.lower()
        if suffix == ".gz":
            yield cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=raw)))
        elif suffix == ".xz":
            yield stack.enter_context(lzma.LZMAFile(raw))
        elif suffix == ".zip":
            archive = stack.enter_context(zipfile.ZipFile(raw))
            yield stack.enter_context(archive.open(_member(path, archive, member)))
        else:
            yield raw


def _member(path: Path, archive: zipfile.ZipFile, wanted: Optional[str]) -> str:
    names = [name for name in archive.namelist() if not name.endswith("/")]
    fitting = [name for name in names if wanted in (name, name.rpartition("/")[2])]
    found = names if len(names) == 1 else fitting
    if len(found) != 1:
        raise ConversionError(
            f"{path}: which of its files to read is not clear; member: {wanted!r} is not (one) of "
            f"{', '.join(names)}"
        )
    return found[0]


def _separator_by_suffix(path: Path, suffixes: list[str]) -> str:
    kind = next((suffix for suffix in reversed(suffixes) if suffix not in COMPRESSIONS), "")
    if kind not in SEPARATORS:
        raise ConversionError(
            f"{path}: what separates its columns is not clear; give separator, or a name that ends in "
            f"{', '.join([*SEPARATORS, '.parquet'])}, then perhaps {', '.join(COMPRESSIONS)}"
        )
    return SEPARATORS[kind]


def _text_batches(path: Path, layout: Layout, invalid: InvalidRows) -> Iterator[pa.RecordBatch]:
    # Quotes have a meaning in csv alone: elsewhere a stray one must not swallow what follows.
    parse = pyarrow.csv.ParseOptions(
        delimiter=layout.separator,
        quote_char='"' if layout.separator == "," else False,
        newlines_in_values=layout.separator == ",",
        invalid_row_handler=invalid,
    )
    read = pyarrow.csv.ReadOptions(
        block_size=BLOCK_BYTES, autogenerate_column_names=not layout.header, use_threads=True
    )
    names = _first_line_columns(path, layout)
    columns = {kind: _resolve(column, names, path) for kind, column in layout.columns().items()}
    convert = pyarrow.csv.ConvertOptions(
        include_columns=list(dict.fromkeys(columns.values())),
        column_types={name: pa.large_string() for name in columns.values()},
        strings_can_be_null=False,
    )
    with _open(path, layout.member) as file:
        for batch in pyarrow.csv.open_csv(file, read, parse, convert):
            yield _renamed(batch, columns)


def _first_line_columns(path: Path, layout: Layout) -> list[str]:
    """Return the names of the columns: those of the header, or f0, f1, ... as the parser names them."""
    with _open(path, layout.member) as file:
        line = file.readline().decode("utf-8-sig").rstrip("\r\n")
    if not line:
        raise ConversionError(f"{path}: its first line is empty")
    columns = next(csv.reader([line])) if layout.separator == "," else line.split(layout.separator)
    return columns if layout.header else [f"f{i}" for i in range(len(columns))]


def _parquet_batches(file: IO[bytes], path: Path, layout: Layout) -> Iterator[pa.RecordBatch]:
    if path.suffix.lower() in COMPRESSIONS:
        raise ConversionError(
            f"{path}: parquet inside {path.suffix} is not read; unpack it (it is compressed itself)"
        )
    table = pyarrow.parquet.ParquetFile(file)
    columns = {
        kind: _resolve(column, table.schema_arrow.names, path) for kind, column in layout.columns().items()
    }
    for batch in table.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(columns.values()))):
        yield _renamed(batch, columns)


def _resolve(column: Column, names: list[str], path: Path) -> str:
    """Return the name of a column given by name or position."""
    if isinstance(column, int) and 0 <= column < len(names):
        return names[column]
    if isinstance(column, str) and Counter(names)[column] == 1:
        return column
    raise ConversionError(
        f"{path}: no (single) column {column!r}; its columns are {', '.join(names)}, "
        f"at positions 0 to {len(names) - 1}"
    )


def _renamed(batch: pa.RecordBatch, columns: dict[str, str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch.column(name) for name in columns.values()], names=list(columns))


def ids_as_text(values: pa.Array) -> pa.Array:
    """Return ids as large_string; whole numbers that are stored as floats lose their ``.0``."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_floating(values.type):
        whole = pc.all(pc.equal(pc.floor(values), values)).as_py()
        values = values.cast(pa.int64()) if whole in (True, None) else values
    return values.cast(pa.large_string())
