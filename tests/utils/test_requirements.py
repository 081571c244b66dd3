"""The lines that install what is missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from recbole_sce.utils import requirements

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def for_this_python(lines: list[str]) -> dict[str, Requirement]:
    read = [Requirement(line) for line in lines]
    return {one.name: one for one in read if one.marker is None or one.marker.evaluate()}


@pytest.mark.parametrize(
    ("package", "extra"),
    [
        ("ray", "ray"),
        ("pyarrow", "parquet"),
        ("hyperopt", "hyperopt"),
        ("optuna", "tune"),
        ("duckdb", "convert"),
    ],
)
def test_what_is_installed_satisfies_the_project(package: str, extra: str) -> None:
    asked = for_this_python(PROJECT["optional-dependencies"][extra])
    line = requirements.install_line(package)
    given = for_this_python(line.replace("'", "").replace("pip install ", "").split())
    for name, requirement in given.items():
        if requirement.specifier:
            assert requirement.specifier == asked[name].specifier
            assert requirement.extras == asked[name].extras


def test_recbole_is_installed_without_ray_where_ray_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "_has_pip", lambda: True)
    line = requirements.install_line("recbole")
    if sys.version_info >= (3, 12):
        assert line == "pip install --no-deps recbole==1.2.1"
    else:
        assert line == "pip install recbole==1.2.1"
        assert str(for_this_python(PROJECT["dependencies"])["recbole"].specifier) == "==1.2.1"


@pytest.mark.parametrize("pip", [True, False])
def test_the_line_that_is_shown_is_the_one_that_is_run(pip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def note(command: list[str], **options: Any) -> None:
        commands.append(command)

    monkeypatch.setattr(requirements.subprocess, "run", note)
    monkeypatch.setattr(requirements, "_has_pip", lambda: pip)
    requirements.install("ray")
    shown = requirements.install_line("ray").replace("'", "").split()
    assert commands[0][-len(shown) + 2 :] == shown[2:]
    assert commands[0][0] == (sys.executable if pip else "uv")


def test_an_error_names_purpose_package_and_line() -> None:
    error = requirements.missing_package("plotly", "a plot", ModuleNotFoundError("none", name="plotly"))
    assert str(error).startswith("a plot needs plotly (none): ")
    assert str(error).endswith("pip install plotly" if find_spec("pip") else "plotly")
    assert error.name == "plotly"
