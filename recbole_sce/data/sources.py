"""The files that a data set is made of, and a digest that tells whether they have changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

#: Up to this size a file is read whole; of a larger one its time counts, and blocks spread over it.
_WHOLE = 2**28
_BLOCK = 2**20
_N_BLOCKS = 64

#: Attribute of a data set: the digest of what it was read from.
ATTRIBUTE = "source_digest"


def files(config: Any) -> list[str]:
    """Return the files of the data set of ``config``: those of interactions, then others that exist."""
    stem = os.path.join(config["data_path"], config["dataset"])
    parts = config["benchmark_filename"]
    needed = [f"{stem}.inter"] if parts is None else [f"{stem}.{part}.inter" for part in parts]
    kinds = ("user", "item", "kg", "link", *(config["additional_feat_suffix"] or ()))
    return [*needed, *(path for path in (f"{stem}.{kind}" for kind in kinds) if os.path.isfile(path))]


def digest(config: Any) -> str | None:
    """Return a digest of names and content of :func:`files`; None if one does not exist.

    A file of up to 256 MiB counts by its content alone, so that a copy is the same. Of a larger one its size,
    the time of its last change and 64 blocks of 1 MiB count, which takes a fraction of a second.
    """
    total = hashlib.blake2b(digest_size=16)
    try:
        for path in files(config):
            total.update(f"{os.path.basename(path)}\0".encode())
            for piece in _pieces(path):
                total.update(piece)
    except FileNotFoundError:
        return None
    return total.hexdigest()


def newest_change(config: Any) -> float:
    """Return the time of the last change of any of :func:`files`, which all exist, in seconds since 1970."""
    return max(os.stat(path).st_mtime for path in files(config))


def _pieces(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        yield f"{status.st_size}\0".encode()
        if status.st_size <= _WHOLE:
            while piece := file.read(_BLOCK):
                yield piece
            return
        yield f"{status.st_mtime_ns}\0".encode()
        for block in range(_N_BLOCKS):
            file.seek((status.st_size - _BLOCK) * block // (_N_BLOCKS - 1))
            yield file.read(_BLOCK)
