"""What the tests of repairs share: a way to see RecBole as it is without one."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

import recbole_sce  # noqa: F401  (first: without ray, RecBole's quick start can be imported only after it)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], None]:
    """Put back, for the rest of the test, what repairs have replaced."""

    def put_back(owner: Any, name: str) -> None:
        monkeypatch.setattr(owner, name, inspect.unwrap(getattr(owner, name)))

    return put_back


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    """Run code in a fresh process, in the test's own folder."""

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    return run
