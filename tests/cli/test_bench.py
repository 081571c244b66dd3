"""recbole-sce bench: what it forwards; the benchmarks have tests of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import recbole_sce
from cli.conftest import Call


@pytest.fixture
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package recbole_sce.bench with one benchmark in the place of the real one."""
    folder = tmp_path / "recbole_sce" / "bench"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "loss.py").write_text(
        "import sys\ndef main(argv):\n    print(*sys.argv, *argv, sep='|')\n    return len(argv)\n"
    )
    for name in [name for name in sys.modules if name.startswith("recbole_sce.bench")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(recbole_sce, "__path__", [str(folder.parent)])


@pytest.mark.usefixtures("benchmark")
def test_arguments_help_and_exit_code_are_the_benchmarks(call: Call) -> None:
    outcome = call("bench", "loss", "--help", "--items", "10")
    assert outcome.out == "recbole-sce bench loss|--help|--items|10|--help|--items|10\n"
    assert outcome.code == 3


@pytest.mark.usefixtures("benchmark")
def test_a_benchmark_that_is_not_installed(call: Call) -> None:
    outcome = call("bench", "scale")
    assert outcome.code == 2
    assert "no benchmark scale" in outcome.err


def test_help(call: Call) -> None:
    outcome = call("bench", "--help")
    assert outcome.code == 0
    assert "recbole-sce bench loss --help" in outcome.out
