"""Reading interaction files: tokens become small integers while the file is read, never one object a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import pandas as pd
from recbole.utils import FeatureType

#: Rows parsed at a time: the parser's own tables stay at a few hundred megabytes whatever the file's size.
CHUNK_ROWS = 1_000_000


def read_header(path: str, separator: str, encoding: Optional[str]) -> dict[str, FeatureType]:
    """Return the columns that the first line of an atomic file names, with their types.

    Raises:
        ValueError: the line is not a list of ``name:type``; the message names file and column.
    """
    with open(path, encoding=encoding) as file:
        head = file.readline().rstrip("\n")
    columns: dict[str, FeatureType] = {}
    for column in head.split(separator):
        name, _, kind = column.partition(":")
        try:
            columns[name] = FeatureType(kind)
        except ValueError:
            raise ValueError(
                f"{path}: {column!r} in the first line is not name:type with type one of "
                f"{', '.join(t.value for t in FeatureType)} (field_separator is {separator!r})"
            ) from None
    return columns


def read_columns(
    path: str, columns: Mapping[str, FeatureType], separator: str, encoding: Optional[str]
) -> pd.DataFrame:
    """Read token and float columns of an atomic file.

    Args:
        path: the file; its first line names the columns as ``name:type``.
        columns: the columns to read, ``token`` or ``float``.
        separator: one character.
        encoding: of the file.

    Returns:
        In the order of the file: tokens as categories, floats as float64; missing values as missing.

    Raises:
        ValueError: the file cannot be parsed; the message names it.
    """
    names = {f"{name}:{kind.value}": name for name, kind in columns.items()}
    dtypes = {
        header: "category" if columns[name] is FeatureType.TOKEN else "float64"
        for header, name in names.items()
    }
    try:
        with pd.read_csv(
            path,
            sep=separator,
            usecols=list(names),
            dtype=dtypes,
            encoding=encoding,
            engine="c",
            float_precision="round_trip",
            chunksize=CHUNK_ROWS,
        ) as reader:
            chunks = list(reader)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    table: dict[str, Any] = {}
    for header, name in names.items():
        parts = [chunk.pop(header) for chunk in chunks]
        if columns[name] is FeatureType.TOKEN:
            table[name] = pd.api.types.union_categoricals(parts)
        else:
            table[name] = np.concatenate(parts)
    frame: pd.DataFrame = pd.DataFrame(table, copy=False)
    return frame
