"""Where a raw log keeps users, items and times, how its file is opened, and what became of its rows."""

from __future__ import annotations

import csv
import gzip
import lzma
import shutil
import zipfile
import zlib
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from recbole_sce.errors import RecboleSCEError

Column = str | int

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
COMPRESSIONS = (".gz", ".xz", ".zip")
TIME_FORMATS = ("auto", "s", "ms", "iso")


class ConversionError(RecboleSCEError, ValueError):
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
    rating: Column | None = None
    separator: str | None = None
    header: bool = True
    time_format: str = "auto"
    member: str | None = None

    def __post_init__(self) -> None:
        for kind, column in self.columns().items():
            if isinstance(column, str) and not self.header:
                raise ConversionError(
                    f"{kind} must be a position from 0 on where there is no header, got {column!r}"
                )
        if self.separator is not None and len(self.separator) != 1:
            raise ConversionError(f"separator must be one character, got {self.separator!r}")
        if self.time_format not in TIME_FORMATS:
            raise ConversionError(
                f"time_format must be one of {', '.join(TIME_FORMATS)}, got {self.time_format!r}"
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


@dataclass(frozen=True)
class BadRows:
    """Rows of a log that were left out for one reason.

    Attributes:
        reason: what is wrong with them.
        count: how many there are.
        example: what the first of them holds.
    """

    reason: str
    count: int
    example: str

    def __str__(self) -> str:
        return f"{self.count:,} left out: {self.reason}, for example {self.example}"


@dataclass(frozen=True)
class ConversionReport:
    """What became of the rows of a log: ``rows`` is the sum of all that was left out and what was written.

    Attributes:
        path: the atomic file.
        rows: rows read, empty lines aside.
        bad: rows left out because they cannot be used, by reason.
        duplicates: interactions left out because the same user and item have another one.
        rare: interactions left out because their user or item has too few.
        interactions, users, items: what the atomic file holds.
        first, last: earliest and latest time in it, ISO 8601, UTC.
    """

    path: Path
    rows: int
    bad: tuple[BadRows, ...]
    duplicates: int
    rare: int
    interactions: int
    users: int
    items: int
    first: str
    last: str

    def __str__(self) -> str:
        lines = [f"{self.rows:,} rows read"]
        lines += [str(bad) for bad in self.bad]
        if self.duplicates:
            lines.append(f"{self.duplicates:,} left out: another interaction of the same user and item")
        if self.rare:
            lines.append(f"{self.rare:,} left out: user or item with too few interactions")
        lines.append(
            f"{self.interactions:,} interactions of {self.users:,} users with {self.items:,} items, "
            f"{self.first} to {self.last}, written to {self.path}"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class LogFile:
    """A log as it can be read in pieces.

    Attributes:
        path: the file, unpacked.
        separator: one character between columns; None: the file is parquet.
        header: whether a text file's first line names the columns.
        width: number of columns of a text file.
        columns: names of the columns by what they hold (``user``, ``item``, ``time``, ``rating``); those of a
            text file are called ``f0``, ``f1``, ...
    """

    path: Path
    separator: str | None
    header: bool
    width: int
    columns: dict[str, str]


def open_log(path: Path, layout: Layout, folder: Path) -> LogFile:
    """Find the columns of a text file, which is unpacked into ``folder`` where it is compressed.

    Raises:
        ConversionError: no such file, column or archive member, or a file that cannot be read.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = path.suffix.lower() in COMPRESSIONS
    if ".parquet" in suffixes[-2:]:
        if packed:
            raise ConversionError(
                f"{path}: parquet inside {path.suffix} is not read; unpack it (it is compressed itself)"
            )
        return LogFile(path, None, False, 0, {})
    try:
        text = _unpack(path, layout.member, folder / "log.txt") if packed else path
        separator = layout.separator or _separator_by_suffix(path, suffixes)
        with text.open("rb") as file:
            line = file.readline().decode("utf-8-sig").rstrip("\r\n")
    except (EOFError, OSError, UnicodeDecodeError, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
        raise ConversionError(f"{path} cannot be read: {error}") from error
    if not line:
        raise ConversionError(f"{path}: its first line is empty")
    names = next(csv.reader([line])) if separator == "," else line.split(separator)
    shown = names if layout.header else [f"f{i}" for i in range(len(names))]
    columns = {kind: f"f{position(column, shown, path)}" for kind, column in layout.columns().items()}
    return LogFile(text, separator, layout.header, len(names), columns)


def position(column: Column, names: list[str], path: Path) -> int:
    """Return the position of a column given by name or position.

    Raises:
        ConversionError: there is no such column, or more than one.
    """
    if isinstance(column, int) and 0 <= column < len(names):
        return column
    if isinstance(column, str) and Counter(names)[column] == 1:
        return names.index(column)
    raise ConversionError(
        f"{path}: no (single) column {column!r}; its columns are {', '.join(names)}, "
        f"at positions 0 to {len(names) - 1}"
    )


def _unpack(path: Path, member: str | None, target: Path) -> Path:
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        suffix = path.suffix.lower()
        if suffix == ".gz":
            stream = cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=raw)))
        elif suffix == ".xz":
            stream = stack.enter_context(lzma.LZMAFile(raw))
        else:
            archive = stack.enter_context(zipfile.ZipFile(raw))
            stream = stack.enter_context(archive.open(_member(path, archive, member)))
        shutil.copyfileobj(stream, stack.enter_context(target.open("wb")), 1 << 20)
    return target


def _member(path: Path, archive: zipfile.ZipFile, member: str | None) -> str:
    names = [name for name in archive.namelist() if not name.endswith("/")]
    fitting = names if len(names) == 1 else [n for n in names if member in (n, n.rpartition("/")[2])]
    if len(fitting) != 1:
        raise ConversionError(
            f"{path}: which of its files to read is not clear; member: {member!r} is not (one) of "
            f"{', '.join(names)}"
        )
    return fitting[0]


def _separator_by_suffix(path: Path, suffixes: list[str]) -> str:
    kind = next((suffix for suffix in reversed(suffixes) if suffix not in COMPRESSIONS), "")
    if kind not in SEPARATORS:
        raise ConversionError(
            f"{path}: what separates its columns is not clear; give separator, or a name that ends in "
            f"{', '.join([*SEPARATORS, '.parquet'])}, then perhaps {', '.join(COMPRESSIONS)}"
        )
    return SEPARATORS[kind]
