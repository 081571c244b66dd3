"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

StrPath = str | os.PathLike[str]


@contextmanager
def whole_file(path: StrPath) -> Iterator[BinaryIO]:
    """Give a stream whose content is at ``path`` once the block has ended, whatever happens meanwhile.

    It is written beside ``path``, flushed to the disk and renamed. If the block, or the disk, fails, ``path``
    is what it was before, and nothing is left beside it. A process that is killed may leave one of
    :func:`unfinished`.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    unfinished_path = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(unfinished_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished_path, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished_path)
        raise
    _flush_folder(path.parent)


def write_json(path: StrPath, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all; the folder is made if it is missing.

    Raises:
        OSError: the file cannot be written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as stream:
        stream.write(json.dumps(content, indent=1).encode() + b"\n")


def unfinished(path: StrPath) -> list[Path]:
    """Return what processes that were killed while they wrote ``path`` have left beside it."""
    path = Path(path)
    start, end = f".{path.name}.", ".tmp"
    return [
        sibling
        for sibling in path.parent.iterdir()
        if sibling.name.startswith(start)
        and sibling.name.endswith(end)
        and sibling.name[len(start) : -len(end)].isdigit()
    ]


def _flush_folder(folder: Path) -> None:
    """Make a rename in ``folder`` last; where a folder cannot be flushed (Windows), the system sees to it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
