"""Files of users, of histories and of recommendations: read line by line, written batch by batch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from recbole_sce.cli.errors import InputError
from recbole_sce.inference.recommender import TopItems
from recbole_sce.utils.files import whole_file
from recbole_sce.utils.requirements import missing_package

FORMATS = (".csv", ".parquet", ".jsonl")
_COLUMNS = ("id", "rank", "item", "score")


def read_users(path: Path) -> list[str]:
    """Return the ids in a file, one a line; empty lines are left out.

    Raises:
        InputError: the file holds none.
    """
    with path.open(encoding="utf-8-sig") as file:
        users = [line for line in (line.strip() for line in file) if line]
    if not users:
        raise InputError(f"{path} holds no user: one id a line is expected")
    return users


def read_histories(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the items of each history in a file.

    JSON lines (.jsonl, .json): ``{"id": "ann", "items": ["12", "7"]}``. CSV: columns ``id`` and ``items``,
    the latter separated by spaces. Items are the data set's own ids, oldest first.

    Raises:
        InputError: a line is not of that form; the message has its number.
    """
    read = _read_csv if path.suffix == ".csv" else _read_json_lines
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from read(path, file)


def _read_csv(path: Path, file: IO[str]) -> Iterator[tuple[str, list[str]]]:
    reader = csv.DictReader(file)
    if not {"id", "items"} <= set(reader.fieldnames or ()):
        raise InputError(f"{path}: the first line must name the columns id and items")
    for row in reader:
        if row["id"] is None or row["items"] is None:
            raise InputError(f"{path}, line {reader.line_num}: a column is missing")
        yield row["id"], row["items"].split()


def _read_json_lines(path: Path, file: IO[str]) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name, items = entry["id"], entry["items"]
            if not isinstance(items, list):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f'{path}, line {number}: expected {{"id": "ann", "items": ["12", "7"]}}, found '
                f"{line.strip()[:80]!r}"
            ) from None
        yield str(name), [str(item) for item in items]


class RecommendationWriter:
    """Writes recommendations batch by batch; the file appears under its name when all of it is written.

    ``.csv`` and ``.parquet`` have a row for each item: id, rank from 1 on, item, score. ``.jsonl`` has a line
    for each id: ``{"id": ..., "items": [...], "scores": [...]}``.

    Args:
        path: the file, whose suffix chooses the format; None: JSON lines to standard output.

    Raises:
        InputError: the format is unknown, the folder does not exist, or Parquet needs a missing library.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: Any = None
        self._pyarrow: Any = None
        self._stack = ExitStack()
        if path is None:
            return
        if path.suffix not in FORMATS:
            raise InputError(f"--out must be a file ending in {', '.join(FORMATS)}, got {path}")
        if not path.absolute().parent.is_dir():
            raise InputError(f"--out must be a file in a folder that exists, got {path}")
        if path.suffix == ".parquet":
            try:
                import pyarrow.parquet
            except ImportError as error:
                raise missing_package("pyarrow", "--out with Parquet", error) from None
            self._pyarrow = pyarrow

    def __enter__(self) -> RecommendationWriter:
        if self._path is None:
            return self
        stream = self._stack.enter_context(whole_file(self._path))
        if self._pyarrow is not None:
            pa = self._pyarrow
            types = (pa.string(), pa.int32(), pa.string(), pa.float32())
            self._schema = pa.schema(list(zip(_COLUMNS, types)))
            self._file = self._stack.enter_context(pa.parquet.ParquetWriter(stream, self._schema))
            return self
        self._file = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        self._stack.callback(self._file.detach)  # writes what it holds, and leaves the stream open
        if self._path.suffix == ".csv":
            csv.writer(self._file).writerow(_COLUMNS)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, top: TopItems) -> None:
        """Write one batch."""
        if self._path is None or self._path.suffix == ".jsonl":
            for name, items, scores in top.rows():
                line = json.dumps({"id": name, "items": items, "scores": scores}, ensure_ascii=False)
                print(line, file=self._file)
        elif self._pyarrow is None:
            csv.writer(self._file).writerows(_long(top))
        else:
            columns = list(zip(*_long(top))) or [()] * len(_COLUMNS)
            self._file.write_table(self._pyarrow.table(columns, schema=self._schema))


def _long(top: TopItems) -> Iterable[tuple[str, int, str, float]]:
    for name, items, scores in top.rows():
        for rank, (item, score) in enumerate(zip(items, scores), start=1):
            yield name, rank, item, score
