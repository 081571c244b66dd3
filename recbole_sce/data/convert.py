"""Raw logs of interactions to RecBole's atomic files, in bounded memory.

DuckDB reads the log into a database on disk beside the output, checks and filters it there, and writes the
atomic file. It works in pieces and puts on disk what does not fit into ``MEMORY``.
"""

from __future__ import annotations

import csv
import os
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from recbole_sce.utils.requirements import missing_package

try:
    import duckdb
except ImportError as error:  # optional: who has atomic files never needs it
    raise missing_package("duckdb", "conversion", error) from error

from recbole_sce.data.raw_logs import (
    PRESETS,
    BadRows,
    ConversionError,
    ConversionReport,
    Layout,
    LogFile,
    open_log,
    position,
)

DEFAULT_LAYOUT = Layout()
DUPLICATES = ("all", "first", "last")

#: What DuckDB may hold in memory, and its threads, each of which has buffers of its own.
MEMORY = "512MB"
THREADS = min(4, os.cpu_count() or 1)

#: Ids that pandas, and so RecBole, reads as "no value": RecBole would drop their rows without a word.
MISSING_IDS = """
    #N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null|
""".strip().split("|")  # the last is the empty one
WHITESPACE = "".join(character for character in map(chr, range(0x3001)) if character.isspace())

#: Numbers from here on are milliseconds where ``time_format`` is ``auto``.
FIRST_MILLISECONDS = 1e11
#: Times (ms since 1970) that a calendar knows: the years 1 to 9999.
EARLIEST, LATEST = -62_135_596_800_000, 253_402_300_799_999

_TIME_NAMES = {
    "s": "a number of seconds",
    "ms": "a number of milliseconds",
    "number": "a number",
    "iso": "an ISO time",
}
#: Milliseconds since 1970 of a time that is text, by its format.
_MILLISECONDS = {
    "s": "number(time) * 1000",
    "ms": "number(time)",
    "number": f"number(time) * if(abs(number(time)) >= {FIRST_MILLISECONDS}, 1, 1000)",
    "iso": "epoch_ms(moment(time))",
}
#: Why a row of text cannot be read, by what DuckDB calls it.
_UNREADABLE = {
    "MISSING COLUMNS": "wrong number of columns",
    "TOO MANY COLUMNS": "wrong number of columns",
    "UNQUOTED VALUE": "a quotation mark that is not closed, or closed too early",
    "LINE SIZE OVER MAXIMUM": "longer than 2 MB",
}

_MACROS = r"""
    CREATE TEMP MACRO number(x) AS  -- NULL where x is none; DuckDB alone would take 1_000 for one
        CASE WHEN NOT contains(x, '_') AND isfinite(try_cast(trim(x) AS DOUBLE)) THEN trim(x)::DOUBLE END;
    CREATE TEMP MACRO punctuated(x) AS
        regexp_replace(regexp_replace(x, '^(\d{4})(\d\d)(\d\d)', '\1-\2-\3'),
                       'T(\d\d)(\d\d)(\d\d)', 'T\1:\2:\3');
    CREATE TEMP MACRO moment(x) AS  -- ISO 8601, or with "UTC" written out, as in some logs; no zone is UTC
        CASE WHEN regexp_full_match(x, '[-+:./0-9TZ ]+(UTC)?')
             THEN try_cast(punctuated(x) AS TIMESTAMPTZ) END;
    CREATE TEMP MACRO plain(x) AS  -- 5.0 is written as 5
        CASE WHEN x = trunc(x) AND abs(x) < 1e15 THEN x::BIGINT::VARCHAR ELSE x::VARCHAR END;
"""


def convert(
    source: str | Path,
    out: str | Path,
    name: str,
    layout: str | Layout = DEFAULT_LAYOUT,
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
        raise ConversionError(f"duplicates must be one of {', '.join(DUPLICATES)}, got {duplicates!r}")
    minima = {"user": min_user_interactions, "item": min_item_interactions}
    for kind, minimum in minima.items():
        if isinstance(minimum, bool) or not isinstance(minimum, int) or minimum < 0:
            raise ConversionError(
                f"min_{kind}_interactions must be a whole number from 0 on, got {minimum!r}"
            )

    source = Path(source)
    if not source.exists():
        raise ConversionError(f"{source}: no such file")
    # Beside the target's folder, which appears with the file alone: RecBole downloads what has no folder.
    Path(out).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=f".{name}-") as folder, _database(Path(folder)) as db:
        try:
            bad = _read(db, source, layout, Path(folder))
        except (duckdb.InvalidInputException, duckdb.IOException) as error:
            raise ConversionError(f"{source} cannot be read: {error}") from error
        usable = _count(db)
        if not usable:
            raise ConversionError("\n".join([f"{source}: no usable row", *map(str, bad)]))
        if duplicates != "all":
            _drop_duplicates(db, duplicates)
        unique = _count(db)
        _k_core(db, minima)
        if not _count(db):
            raise ConversionError(
                f"{source}: nothing is left of {unique:,} interactions where users need "
                f"{min_user_interactions} and items {min_item_interactions}"
            )
        text = Path(folder) / target.name
        interactions, users, items, first, last = _write(db, layout.rating is not None, text)
        target.parent.mkdir(exist_ok=True)
        os.replace(text, target)
    return ConversionReport(
        path=target,
        rows=usable + sum(reason.count for reason in bad),
        bad=bad,
        duplicates=usable - unique,
        rare=unique - interactions,
        interactions=interactions,
        users=users,
        items=items,
        first=_iso(first),
        last=_iso(last),
    )


def _layout(layout: str | Layout) -> Layout:
    if isinstance(layout, Layout):
        return layout
    if layout not in PRESETS:
        raise ConversionError(f"layout must be a Layout or one of {', '.join(PRESETS)}, got {layout!r}")
    return PRESETS[layout]


def _target(out: Path, name: str, overwrite: bool) -> Path:
    if not name or name != Path(name).name or name.startswith("."):
        raise ConversionError(f"name must be a plain folder name such as my-shop, got {name!r}")
    target = out / name / f"{name}.inter"
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; overwrite=True replaces it")
    return target


def _database(folder: Path) -> duckdb.DuckDBPyConnection:
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "threads": THREADS,
        "autoinstall_known_extensions": False,
    }
    db = duckdb.connect(folder / "log.duckdb", config=settings)
    db.execute("SET TimeZone = 'UTC'")
    db.execute(_MACROS)
    return db


def _row(db: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = db.execute(query).fetchone()
    assert row is not None  # an aggregate always has one
    return row


def _count(db: duckdb.DuckDBPyConnection) -> int:
    return int(_row(db, "SELECT count(*) FROM log")[0])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# --- reading -----------------------------------------------------------------------------------------------


def _read(db: duckdb.DuckDBPyConnection, source: Path, layout: Layout, folder: Path) -> tuple[BadRows, ...]:
    """Make the table ``log`` (user, item, ms, score) of the usable rows in their order; return the others."""
    file = open_log(source, layout, folder)
    if file.separator is None:
        rows, time_format = _parquet(db, file.path, layout)
    else:
        rows, time_format = _text(file, "store_rejects = true, rejects_limit = 0"), layout.time_format
    if time_format == "auto":
        sample = rows if file.separator is None else _text(file, "ignore_errors = true")
        is_number = "avg((number(time) IS NOT NULL)::INT) >= 0.5"
        times = f"SELECT time FROM ({sample}) LIMIT 1000"
        time_format = "number" if _row(db, f"SELECT {is_number} FROM ({times})")[0] else "iso"

    missing = ", ".join(map(_quoted, MISSING_IDS))
    reasons = [
        reason
        for kind in ("user", "item")
        for reason in (
            (f"{kind} IS NULL OR trim({kind}, {_quoted(WHITESPACE)}) IN ({missing})", f"no {kind}"),
            (
                rf"""regexp_matches({kind}, '[\t\r\n"\x00]')""",
                f"{kind} with a tab, a quotation mark or a line break",
            ),
        )
    ]
    reasons.append(
        (f"ms IS NULL OR ms NOT BETWEEN {EARLIEST} AND {LATEST}", f"time is not {_TIME_NAMES[time_format]}")
    )
    if layout.rating is not None:
        reasons.append(("score IS NULL", "rating is not a number"))
    cases = " ".join(f"WHEN {condition} THEN {_quoted(reason)}" for condition, reason in reasons)
    db.execute(
        f"""
        CREATE TABLE log AS
        SELECT user, item, if(reason IS NULL, ms::BIGINT, NULL) AS ms, score, reason,
               if(reason IS NULL, NULL, time) AS time, if(reason IS NULL, NULL, rating) AS rating
        FROM (SELECT *, CASE {cases} END AS reason
              FROM (SELECT *, round_even({_MILLISECONDS[time_format]}, 0) AS ms, number(rating) AS score
                    FROM ({rows})))
        """
    )
    bad = _unusable(db, list(layout.columns()))
    if file.separator is not None:
        bad += _unreadable(db, source, file)
    db.execute("DELETE FROM log WHERE reason IS NOT NULL")
    return tuple(bad)


def _text(file: LogFile, errors: str) -> str:
    """Return the query of a text file's rows; ``errors``: what becomes of those that cannot be read."""
    # Quotes have a meaning in csv alone: elsewhere a stray one must not swallow what follows.
    quote = _quoted('"' if file.separator == "," else "")
    types = ", ".join(f"f{i}: 'VARCHAR'" for i in range(file.width))
    columns = ", ".join(
        f"coalesce({file.columns[kind]}, '') AS {kind}" if kind in file.columns else f"NULL AS {kind}"
        for kind in ("user", "item", "time", "rating")
    )
    return f"""
        SELECT {columns}
        FROM read_csv({_quoted(str(file.path))}, auto_detect = false, compression = 'none',
                      columns = {{{types}}}, delim = {_quoted(str(file.separator))},
                      quote = {quote}, escape = {quote}, header = {file.header}, {errors})
    """


def _parquet(db: duckdb.DuckDBPyConnection, path: Path, layout: Layout) -> tuple[str, str]:
    """Return the query of a parquet file's rows, as text, and the format of their times."""
    table = f"read_parquet({_quoted(str(path))})"
    types = dict(row[:2] for row in db.execute(f"DESCRIBE SELECT * FROM {table}").fetchall())
    columns, time_format = {"rating": "NULL"}, layout.time_format
    for kind, column in layout.columns().items():
        name = list(types)[position(column, list(types), path)]
        quoted = '"' + name.replace('"', '""') + '"'
        columns[kind] = f"{quoted}::VARCHAR"
        if types[name] in ("FLOAT", "DOUBLE"):  # whole numbers that a gap has made floats
            columns[kind] = f"plain({quoted})"
        elif kind == "time" and types[name].startswith(("TIMESTAMP", "DATE")):
            columns[kind], time_format = f"epoch_ms({quoted}::TIMESTAMP)::VARCHAR", "ms"
    return (
        f"SELECT {', '.join(f'{query} AS {kind}' for kind, query in columns.items())} FROM {table}",
        time_format,
    )


def _unusable(db: duckdb.DuckDBPyConnection, kinds: list[str]) -> list[BadRows]:
    """Return what is wrong with rows that have been read."""
    groups = db.execute(
        f"""
        SELECT reason, count(*), arg_min(({", ".join(kinds)},), rowid) FROM log
        WHERE reason IS NOT NULL GROUP BY reason ORDER BY min(rowid)
        """
    ).fetchall()
    return [
        BadRows(reason, count, ", ".join(f"{kind} {value!r}" for kind, value in zip(kinds, example)))
        for reason, count, example in groups
    ]


def _unreadable(db: duckdb.DuckDBPyConnection, source: Path, file: LogFile) -> list[BadRows]:
    """Return the rows of a text file that could not be split into its columns."""
    groups = db.execute(
        """
        SELECT error_type, count(*), arg_min(csv_line, line), min(line)
        FROM (SELECT line, min(error_type) AS error_type, min(csv_line) AS csv_line
              FROM reject_errors GROUP BY line, line_byte_position)
        GROUP BY error_type ORDER BY min(line)
        """
    ).fetchall()
    bad: dict[str, BadRows] = {}
    for error_type, count, line, number in groups:
        if error_type.startswith("INVALID"):
            raise ConversionError(
                f"{source} cannot be read: row {number} is not UTF-8: {line.strip()[:200]!r}"
            )
        reason, text = _UNREADABLE.get(error_type, error_type.lower()), line.strip("\r\n")
        width = len(next(csv.reader([text])) if file.separator == "," else text.split(file.separator))
        example = f"{text[:200]!r} ({width} instead of {file.width})"
        first = bad.get(reason, BadRows(reason, 0, example))
        bad[reason] = BadRows(reason, first.count + count, first.example)
    return list(bad.values())


# --- filters -----------------------------------------------------------------------------------------------


def _drop_duplicates(db: duckdb.DuckDBPyConnection, which: str) -> None:
    """Keep one interaction per user and item: the ``first`` or ``last`` in time, then in the log."""
    best = "min" if which == "first" else "max"
    db.execute(
        f"""
        DELETE FROM log WHERE rowid NOT IN
            (SELECT {best}({{'ms': ms, 'row': rowid}}).row FROM log GROUP BY user, item)
        """
    )


def _k_core(db: duckdb.DuckDBPyConnection, minima: dict[str, int]) -> None:
    """Drop users and items that are too rare, in turn, until there are none."""
    dropped = True
    while dropped:
        dropped = False
        for kind, minimum in minima.items():
            if minimum > 1:
                rare = f"SELECT {kind} FROM log GROUP BY {kind} HAVING count(*) < {minimum}"
                dropped |= _row(db, f"DELETE FROM log WHERE {kind} IN ({rare})")[0] > 0


# --- writing -----------------------------------------------------------------------------------------------


def _write(db: duckdb.DuckDBPyConnection, rated: bool, path: Path) -> tuple[Any, ...]:
    """Write the atomic file; return its interactions, users, items, first and last time (ms since 1970)."""
    *summary, whole = _row(
        db,
        "SELECT count(*), count(DISTINCT user), count(DISTINCT item), min(ms), max(ms), "
        "bool_and(ms % 1000 = 0) FROM log",
    )
    columns = ['user AS "user_id:token"', 'item AS "item_id:token"']
    columns += ['plain(score) AS "rating:float"'] * rated
    columns.append(("ms // 1000" if whole else "plain(ms / 1000)") + ' AS "timestamp:float"')
    db.execute(
        f"""
        COPY (SELECT {", ".join(columns)} FROM log) TO {_quoted(str(path))}
        (FORMAT csv, HEADER true, DELIMITER '\t', QUOTE '', ESCAPE '')
        """
    )
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return tuple(summary)


def _iso(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
