"""benchmarks/recbole_suite.py: what it says of a suite in which each kind of difference occurs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parent.parent / "benchmarks" / "recbole_suite.py"

TESTS = """
import os
import sys

import pytest

imported = "recbole_sce" in sys.modules


def test_same():
    pass


def test_fails_anyway():
    assert False, "anyway"


def test_broken():
    assert not imported, "the plugin is here"


def test_repaired():
    assert imported


@pytest.mark.skipif(imported, reason="for the test")
def test_skipped_with_it():
    pass


def test_never_ends():
    while True:
        pass


def test_ends_the_process():
    os._exit(70)
"""


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SUITE), "--checkout", str(checkout), "--timeout", "1", *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What looks like a checkout of RecBole."""
    (tmp_path / "recbole").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_all.py").write_text(TESTS)
    (tmp_path / "tests" / "test_cannot_be_imported.py").write_text("import no_such_module\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.nightly
def test_differences_are_told(checkout: Path) -> None:
    files = [f"tests/test_{name}.py" for name in ("all", "cannot_be_imported")]
    # An empty package named recbole would hide the real one from the plugin.
    (checkout / "recbole").rmdir()
    (checkout / "recbole").symlink_to(Path(__import__("recbole").__file__).parent)
    done = run(checkout, "--out", "out.json", *files)
    assert done.returncode == 1, done.stderr
    assert "same: 5, broken: 2, repaired: 1, other: 0" in done.stdout
    for test in ("broken", "skipped_with_it"):
        assert f"broken: tests/test_all.py::test_{test}\n" in done.stdout
    assert "with: failed AssertionError: the plugin is here" in done.stdout
    assert "repaired: tests/test_all.py::test_repaired" in done.stdout
    kept = json.loads((checkout / "out.json").read_text())
    assert "not finished after 1 s" in kept[files[0]]["with"]["tests/test_all.py::test_never_ends"][1]
    assert "no_such_module" in str(kept[files[1]]["without"])
    assert kept[files[0]]["without"][files[0]][0] == "failed"  # the process
    assert sorted(path.name for path in checkout.iterdir()) == ["out.json", "recbole", "tests"]

    again = run(checkout, "--out", "out.json", files[1])
    assert again.returncode == 0
    assert "same: 1, broken: 0, repaired: 0, other: 0" in again.stdout
    assert again.stderr == ""  # nothing was run again


def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path} has no folder recbole, so it is no RecBole checkout" in done.stderr
