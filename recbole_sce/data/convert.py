"""Raw logs of interactions to RecBole's atomic files, in bounded memory.

The log is read once, batch by batch. What stays in memory is the ids of users and items, each once, their
counts, and one byte an interaction; every interaction itself waits as 20 to 28 bytes in temporary files
beside the output. Filters work on those, a piece at a time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Union

import numpy as np
import numpy.typing as npt
import pandas as pd

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
except ImportError as error:  # optional: who has atomic files never needs it
    raise ImportError(f"conversion needs pyarrow (pip install 'recbole_sce[convert]'): {error}") from error

from recbole_sce.data.raw_logs import (
    PRESETS,
    ConversionError,
    InvalidRows,
    Layout,
    ids_as_text,
    read_batches,
)

DEFAULT_LAYOUT = Layout()
DUPLICATES = ("all", "first", "last")

#: Interactions worked on at a time.
PIECE = 1_000_000

#: Ids that pandas, and so RecBole, reads as "no value": RecBole would drop their rows without a word.
MISSING_IDS = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)

#: Numbers from here on are milliseconds where ``time_format`` is ``auto``.
FIRST_MILLISECONDS = 1e11
#: Times (ms since 1970) that a calendar knows: the years 1 to 9999.
EARLIEST, LATEST = -62_135_596_800_000, 253_402_300_799_999

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int32]


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


def convert(
    source: Union[str, Path],
    out: Union[str, Path],
    name: str,
    layout: Union[str, Layout] = DEFAULT_LAYOUT,
    *,
    duplicates: str = "all",
    min_user_interactions: int = 0,
    min_item_interactions: int = 0,
    overwrite: bool = False,
) -> ConversionReport:
    """Write ``<out>/<name>/<name>.inter``, RecBole's atomic file, from a raw log.

    Args:
        source: csv, tsv or parquet file, as it is or in gz, xz or zip.
        out: folder of data sets, RecBole's ``data_path``.
        name: of the data set.
        layout: where the log keeps users, items and times, or the name of one of ``PRESETS``.
        duplicates: of the interactions of one user with one item keep ``all``, the ``first`` or the
            ``last`` in time (in the file, where times are equal). RecBole: ``rm_dup_inter``.
        min_user_interactions: drop users with fewer, and
        min_item_interactions: items with fewer, in turn until all that is left has enough (k-core).
        overwrite: replace an atomic file that is there already.

    Returns:
        What was read, left out and written. The order of the file is the order of the log.

    Raises:
        ConversionError: an argument is not allowed, the log cannot be read, or nothing usable is left.
        FileExistsError: the atomic file is there already.
    """
    layout = _layout(layout)
    target = _target(Path(out), name, overwrite)
    if duplicates not in DUPLICATES:
        raise ConversionError(f"duplicates: {duplicates!r} is not allowed; one of {', '.join(DUPLICATES)} is")
    for key, value in (
        ("min_user_interactions", min_user_interactions),
        ("min_item_interactions", min_item_interactions),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConversionError(f"{key}: {value!r} is not allowed; a whole number from 0 on is")

    if not Path(source).exists():
        raise ConversionError(f"{source}: no such file")
    # Beside the target's folder, which appears with the file alone: RecBole downloads what has no folder.
    Path(out).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{name}-") as folder:
        log = _read(Path(source), layout, Path(folder))
        keep = np.ones(len(log), dtype=bool)
        if not keep.any():
            raise ConversionError("\n".join([f"{source}: no usable row", *map(str, log.bad.values())]))
        if duplicates != "all":
            drop_duplicates(log.users, log.items, log.times, keep, duplicates)
        unique = int(keep.sum())
        k_core(log.users, log.items, keep, min_user_interactions, min_item_interactions)
        interactions = int(keep.sum())
        if not interactions:
            raise ConversionError(
                f"{source}: nothing is left of {unique:,} interactions where users need "
                f"{min_user_interactions} and items {min_item_interactions}"
            )
        text = Path(folder) / target.name
        first, last = _time_range(log.times, keep)
        users, items = (int((_counts(codes, keep) > 0).sum()) for codes in (log.users, log.items))
        _write(log, keep, text)
        target.parent.mkdir(exist_ok=True)
        os.replace(text, target)
    return ConversionReport(
        path=target,
        rows=log.rows,
        bad=tuple(log.bad.values()),
        duplicates=len(log) - unique,
        rare=unique - interactions,
        interactions=interactions,
        users=users,
        items=items,
        first=_iso(first),
        last=_iso(last),
    )


def _layout(layout: Union[str, Layout]) -> Layout:
    if isinstance(layout, Layout):
        return layout
    if layout not in PRESETS:
        raise ConversionError(
            f"layout: {layout!r} is not allowed; a Layout or one of {', '.join(PRESETS)} is"
        )
    return PRESETS[layout]


def _target(out: Path, name: str, overwrite: bool) -> Path:
    if not name or name != Path(name).name or name.startswith("."):
        raise ConversionError(f"name: {name!r} is not allowed; a plain folder name is, such as my-shop")
    target = out / name / f"{name}.inter"
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; overwrite=True replaces it")
    return target


# --- reading -----------------------------------------------------------------------------------------------


class _Ids:
    """Numbers ids from 0 in the order in which they are first seen."""

    def __init__(self) -> None:
        self.known: Any = pa.array([], pa.large_string())

    def codes(self, ids: Any) -> Codes:
        new = pc.unique(ids.filter(pc.is_null(pc.index_in(ids, value_set=self.known))))
        if len(new):
            self.known = pa.concat_arrays([self.known, new])
        codes: Codes = pc.index_in(ids, value_set=self.known).to_numpy(zero_copy_only=False).astype(np.int32)
        return codes


@dataclass
class _Log:
    """The usable rows of a log as numbers, on disk: user and item codes, times (ms since 1970), ratings."""

    folder: Path
    rated: bool
    rows: int = 0
    usable: int = 0
    bad: dict[str, BadRows] = field(default_factory=dict)
    user_ids: _Ids = field(default_factory=_Ids)
    item_ids: _Ids = field(default_factory=_Ids)

    def __len__(self) -> int:
        return self.usable

    def _column(self, name: str, dtype: str) -> npt.NDArray[Any]:
        return np.memmap(self.folder / name, dtype=dtype, mode="r")

    @property
    def users(self) -> Codes:
        return self._column("users", "int32")

    @property
    def items(self) -> Codes:
        return self._column("items", "int32")

    @property
    def times(self) -> npt.NDArray[np.int64]:
        return self._column("times", "int64")

    @property
    def ratings(self) -> npt.NDArray[np.float64]:
        return self._column("ratings", "float64")

    def leave_out(self, reason: str, count: int, example: str) -> None:
        known = self.bad.get(reason, BadRows(reason, 0, example))
        self.bad[reason] = BadRows(reason, known.count + count, known.example)


def _read(source: Path, layout: Layout, folder: Path) -> _Log:
    """Read the log into columns of numbers below ``folder``, and count what cannot be used."""
    log = _Log(folder, rated=layout.rating is not None)
    invalid = InvalidRows()
    time_format = layout.time_format
    columns = ["users", "items", "times"] + ["ratings"] * log.rated
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("wb")) for name in columns}
        for batch in read_batches(source, layout, invalid):
            log.rows += len(batch)
            if time_format == "auto":
                time_format = _guess_time_format(batch.column("time"))
            usable, times, ratings = _check(batch, time_format, log)
            mask = pa.array(usable)
            for name, ids in (("user", log.user_ids), ("item", log.item_ids)):
                ids.codes(ids_as_text(batch.column(name)).filter(mask)).tofile(files[f"{name}s"])
            times[usable].tofile(files["times"])
            if log.rated:
                ratings[usable].tofile(files["ratings"])
            log.usable += int(usable.sum())
    if invalid.count:
        log.rows += invalid.count
        log.leave_out("wrong number of columns", invalid.count, invalid.example)
    return log


def _check(
    batch: Any, time_format: str, log: _Log
) -> tuple[Mask, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return which rows of a batch (n,) can be used, their times (ms since 1970) and ratings."""
    times, timed = _milliseconds(batch.column("time"), time_format)
    ratings = np.zeros(len(batch))
    problems: list[tuple[str, Mask]] = []
    for name in ("user", "item"):
        ids = ids_as_text(batch.column(name))
        no_value = pc.is_in(pc.utf8_trim_whitespace(ids), value_set=pa.array(MISSING_IDS, ids.type))
        missing = pc.or_(pc.is_null(ids), no_value)
        broken = pc.fill_null(pc.match_substring_regex(ids, r'[\t\r\n"\x00]'), False)
        problems += [
            (f"no {name}", _mask(missing)),
            (f"{name} with a tab, a quotation mark or a line break", _mask(broken)),
        ]
    problems.append((f"time is not {_TIME_NAMES[time_format]}", ~timed))
    if log.rated:
        ratings = _numbers(batch.column("rating"))
        problems.append(("rating is not a number", ~np.isfinite(ratings)))

    usable = np.ones(len(batch), dtype=bool)
    for reason, wrong in problems:  # a row counts under its first problem
        wrong = wrong & usable
        if wrong.any():
            first = int(wrong.argmax())
            example = ", ".join(
                f"{name} {batch.column(name)[first].as_py()!r}" for name in batch.schema.names
            )
            log.leave_out(reason, int(wrong.sum()), example)
            usable &= ~wrong
    return usable, times, ratings


_TIME_NAMES = {
    "s": "a number of seconds",
    "ms": "a number of milliseconds",
    "number": "a number",
    "iso": "an ISO time",
}


def _mask(values: Any) -> Mask:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=bool)


def _numbers(values: Any) -> npt.NDArray[np.float64]:
    """Return numbers, or text as numbers (n,), NaN where it is none."""
    numbers = pd.to_numeric(values.to_pandas(), errors="coerce")
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))


def _guess_time_format(values: Any) -> str:
    """Return ``number`` where most of the first batch's times are numbers, else ``iso``."""
    if pa.types.is_temporal(values.type):
        return "iso"
    sample = values.slice(0, 1000)
    return "number" if np.isfinite(_numbers(sample)).mean() >= 0.5 else "iso"


def _milliseconds(values: Any, time_format: str) -> tuple[npt.NDArray[np.int64], Mask]:
    """Return times (n,) in ms since 1970, and whether each could be read."""
    if pa.types.is_temporal(values.type):
        moments = values.cast(pa.timestamp("ms"), safe=False)
        return _int64(moments.cast(pa.int64())), ~_mask(moments.is_null())
    if time_format == "iso":
        # "UTC" is written out by some logs; pandas reads every other form of ISO 8601
        text = pd.Series(values.to_pandas()).str.replace(r"\s*UTC$", "Z", regex=True)
        moments = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
        return moments.to_numpy("datetime64[ms]").astype(np.int64), moments.notna().to_numpy()
    numbers = _numbers(values)
    if time_format == "number":
        factor = np.where(np.abs(numbers) >= FIRST_MILLISECONDS, 1, 1000)
    else:
        factor = np.array(1 if time_format == "ms" else 1000)
    scaled = np.rint(numbers * factor)
    known = (scaled >= EARLIEST) & (scaled <= LATEST)  # False for NaN
    return np.where(known, scaled, 0).astype(np.int64), known


def _int64(values: Any) -> npt.NDArray[np.int64]:
    return np.asarray(pc.fill_null(values, 0).to_numpy(zero_copy_only=False), dtype=np.int64)


# --- filters: pure functions on codes, which may be memory maps ---------------------------------------------


def _pieces(n: int) -> Iterator[slice]:
    return (slice(start, min(start + PIECE, n)) for start in range(0, n, PIECE))


def _counts(codes: Codes, keep: Mask) -> npt.NDArray[np.int64]:
    """Return how often each code occurs among the rows kept."""
    size = max((int(codes[piece].max()) for piece in _pieces(len(codes))), default=-1) + 1
    counts = np.zeros(size, dtype=np.int64)
    for piece in _pieces(len(codes)):
        counts += np.bincount(codes[piece][keep[piece]], minlength=size)
    return counts


def k_core(users: Codes, items: Codes, keep: Mask, min_user: int, min_item: int) -> None:
    """Narrow ``keep`` until every user kept has ``min_user`` interactions, and every item ``min_item``.

    Args:
        users: (n,) user of each interaction, from 0.
        items: (n,) its item.
        keep: (n,) interactions that count; changed in place.
        min_user: fewest interactions of a user.
        min_item: fewest interactions of an item.
    """
    user_counts, item_counts = _counts(users, keep), _counts(items, keep)
    while True:
        rare_users = (user_counts > 0) & (user_counts < min_user)
        rare_items = (item_counts > 0) & (item_counts < min_item)
        if not rare_users.any() and not rare_items.any():
            return
        for piece in _pieces(len(keep)):
            piece_users, piece_items = users[piece], items[piece]
            dropped = keep[piece] & (rare_users[piece_users] | rare_items[piece_items])
            user_counts -= np.bincount(piece_users[dropped], minlength=len(user_counts))
            item_counts -= np.bincount(piece_items[dropped], minlength=len(item_counts))
            keep[piece] &= ~dropped


def drop_duplicates(users: Codes, items: Codes, times: npt.NDArray[np.int64], keep: Mask, which: str) -> None:
    """Narrow ``keep`` to one interaction of each user with each item: the ``first`` or ``last`` in time.

    Works on as many users at a time as have about ``PIECE`` interactions.

    Args:
        users: (n,) user of each interaction, from 0.
        items: (n,) its item.
        times: (n,) its time; where two are equal, the order of the rows decides.
        keep: (n,) interactions that count; changed in place.
        which: ``first`` or ``last``.
    """
    group = np.cumsum(_counts(users, keep)) // PIECE  # of each user
    for number in np.unique(group):
        rows = np.concatenate(
            [
                piece.start + np.flatnonzero(keep[piece] & (group[users[piece]] == number))
                for piece in _pieces(len(users))
            ]
        )
        if not len(rows):  # users none of whose interactions is kept
            continue
        order = np.lexsort((times[rows], items[rows], users[rows]))  # stable
        rows = rows[order]
        changes = (np.diff(users[rows]) != 0) | (np.diff(items[rows]) != 0)
        one = np.concatenate([[True], changes]) if which == "first" else np.concatenate([changes, [True]])
        keep[rows[~one]] = False


# --- writing -----------------------------------------------------------------------------------------------


def _time_range(times: npt.NDArray[np.int64], keep: Mask) -> tuple[int, int]:
    """Return the first and the last time of what is kept."""
    first, last = LATEST, EARLIEST
    for piece in _pieces(len(times)):
        kept = times[piece][keep[piece]]
        first, last = int(kept.min(initial=first)), int(kept.max(initial=last))
    return first, last


def _write(log: _Log, keep: Mask, path: Path) -> None:
    """Write the atomic file: times as seconds, with decimals where the log has any."""
    times = log.times
    whole = not any((times[piece][keep[piece]] % 1000).any() for piece in _pieces(len(log)))
    header = ["user_id:token", "item_id:token"] + ["rating:float"] * log.rated + ["timestamp:float"]
    with path.open("wb") as file:
        file.write(("\t".join(header) + "\n").encode())
        for piece in _pieces(len(log)):
            mask = keep[piece]
            columns = {
                "user": log.user_ids.known.take(pa.array(log.users[piece][mask])),
                "item": log.item_ids.known.take(pa.array(log.items[piece][mask])),
            }
            if log.rated:
                columns["rating"] = pa.array(log.ratings[piece][mask])
            moments = times[piece][mask]
            columns["time"] = pa.array(moments // 1000 if whole else moments / 1000)
            pyarrow.csv.write_csv(
                pa.table(columns),
                file,
                pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none"),
            )
        file.flush()
        os.fsync(file.fileno())


def _iso(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
