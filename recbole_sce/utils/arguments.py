"""The arguments of the program, from which RecBole's ``Config`` reads settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def recbole_sees(overrides: Mapping[str, str]) -> Iterator[None]:
    """Show RecBole's ``Config``, which reads ``sys.argv``, the overrides and nothing else."""
    ours = sys.argv
    sys.argv = [*ours[:1], *(f"--{key}={value}" for key, value in overrides.items())]
    try:
        yield
    finally:
        sys.argv = ours
