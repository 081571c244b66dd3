"""Reading interaction files: tokens become small integers while the file is read, never one object a row."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from recbole.utils import FeatureType

#: Rows parsed at a time: the parser's own tables stay at a few hundred megabytes whatever the file's size.
CHUNK_ROWS = 1_000_000
#: What some editors put before the first line; pandas leaves it out, too.
_BYTE_ORDER_MARK = "\ufeff"


def read_header(path: str, separator: str, encoding: str | None) -> dict[str, FeatureType]:
    """Return the columns that the first line of an atomic file names, with their types.

    Raises:
        ValueError: the line is not a list of ``name:type``, or not in ``encoding``; the message names file
            and column.
    """
    try:
        with open(path, encoding=encoding) as file:
            head = file.readline().rstrip("\n").lstrip(_BYTE_ORDER_MARK)
    except LookupError:
        raise ValueError(
            f"encoding must be a name that Python knows, such as utf-8 or latin-1, got {encoding!r}"
        ) from None
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, encoding, error) from None
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
    path: str, columns: Mapping[str, FeatureType], separator: str, encoding: str | None
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
        ValueError: the file cannot be parsed, or not as ``encoding`` says; the message names it.
    """
    names = {f"{name}:{kind.value}": name for name, kind in columns.items()}
    dtypes = {
        header: object if columns[name] is FeatureType.TOKEN else np.float64 for header, name in names.items()
    }
    parts: dict[str, list[_Part]] = {name: [] for name in columns}
    try:
        with warnings.catch_warnings():
            # pandas 3 reads floats exactly by itself and deprecates to ask for it.
            warnings.simplefilter("ignore", DeprecationWarning)
            reader = pd.read_csv(
                path,
                sep=separator,
                usecols=list(names),
                index_col=False,  # a tab at the end of lines must not make the first column an index
                dtype=dtypes,
                encoding=encoding,
                engine="c",
                float_precision="round_trip",
                chunksize=CHUNK_ROWS,
            )
        with reader:
            for chunk in reader:
                for header, name in names.items():
                    if columns[name] is FeatureType.TOKEN:
                        codes, tokens = pd.factorize(chunk[header])
                        parts[name].append(_Part(codes.astype(np.int32), np.asarray(tokens, dtype=object)))
                    else:
                        parts[name].append(_Part(chunk[header].to_numpy()))
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, encoding, error) from None
    except ValueError as error:
        numbers = ", ".join(name for name, kind in columns.items() if kind is FeatureType.FLOAT)
        raise ValueError(
            f"{path} cannot be read: {error} (columns of numbers, type float: {numbers or 'none'})"
        ) from error
    for name, kind in columns.items():
        if kind is FeatureType.TOKEN:
            _check_tokens(path, name, parts[name])
    table: dict[str, Any] = {}
    for name, kind in columns.items():
        pieces = parts.pop(name)
        table[name] = _joined_tokens(pieces) if kind is FeatureType.TOKEN else _joined(pieces)
    frame: pd.DataFrame = pd.DataFrame(table, copy=False)
    return frame


def _wrong_encoding(path: str, encoding: str | None, error: UnicodeDecodeError) -> ValueError:
    """Return an error that names the first line that cannot be decoded."""
    name = encoding or error.encoding
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode(error.encoding)
            except UnicodeDecodeError as here:
                byte = line[here.start]
                return ValueError(
                    f"{path} is not {name}: line {number} has the byte 0x{byte:02x} ({here.reason}). Save it "
                    f"as {name}, or set encoding to what it is in, such as latin-1"
                )
    return ValueError(f"{path} is not {name}: {error}")


def _check_tokens(path: str, name: str, parts: list[_Part]) -> None:
    for part in parts:
        for token in part.tokens:
            if "\n" in token:
                raise ValueError(
                    f"{path}: column {name!r} has a value of more than one line, {token[:60]!r}: a quotation "
                    'mark (") at the beginning of a value holds to the next one. Remove quotation marks, or '
                    "double them and put the value into a pair"
                )


class _Part(NamedTuple):
    """A piece of a column: its values, or codes (-1 where missing) into its distinct tokens."""

    values: npt.NDArray[Any]
    tokens: npt.NDArray[Any] = np.empty(0, dtype=object)


def _joined(parts: list[_Part]) -> npt.NDArray[Any]:
    return np.concatenate([part.values for part in parts])


def _joined_tokens(parts: list[_Part]) -> pd.Categorical:
    ids, tokens = pd.factorize(np.concatenate([part.tokens for part in parts]))
    first = 0
    for k, part in enumerate(parts):
        # the last place serves code -1
        id_of_code = np.append(ids[first : first + len(part.tokens)], -1).astype(np.int32)
        first += len(part.tokens)
        parts[k] = _Part(id_of_code[part.values])
    return pd.Categorical.from_codes(_joined(parts), categories=pd.Index(tokens, dtype=object))
