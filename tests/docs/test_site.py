"""The site builds without a warning, and holds every public name."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

import recbole_sce
from docs.pages import ROOT
from recbole_sce.model import MODELS

CODE = ROOT / "docs" / "_site"
#: Packages whose public names the API lists.
PACKAGES = ("recbole_sce", "recbole_sce.loss", "recbole_sce.settings", "recbole_sce.experiments")


def test_the_page_of_commands_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    made = runpy.run_path(str(CODE / "command_line.py"))["command_line"]()
    assert page == made, "run make reference"


@pytest.fixture(scope="module")
def hooks() -> dict[str, Any]:
    pytest.importorskip("mkdocs", reason="the site needs the extra recbole_sce[docs]")
    return runpy.run_path(str(CODE / "hooks.py"))


def test_every_public_name_is_on_a_page_of_the_api(hooks: dict[str, Any]) -> None:
    pages = "".join(content for path, content in hooks["generated_pages"]() if "/api/" in path)
    listed = {line.rpartition(".")[2] for line in pages.splitlines() if line.startswith("::: ")}
    variants = {cls.__name__ for cls in MODELS}  # the table of models has them
    for package in PACKAGES:
        names = set(importlib.import_module(package).__all__) - variants - {"MODELS", "NOT_SERVED"}
        assert names <= listed, package
    assert variants <= set(recbole_sce.__all__)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[a](SECURITY.md)", "[a](security.md)"),
        ("[a](docs/guides/faq.md#b)", "[a](../guides/faq.md#b)"),
        ("[a](examples/search.py)", "[a](../guides/examples.md#searchpy)"),
        ("[a](recbole_sce/errors.py)", "a"),
        ("[a](https://b.c) [d](#e)", "[a](https://b.c) [d](#e)"),
        ("```\n[a](SECURITY.md)\n```", "```\n[a](SECURITY.md)\n```"),
    ],
)
def test_links_lead_to_pages_of_the_site(hooks: dict[str, Any], text: str, shown: str) -> None:
    assert hooks["as_page"](text, "CONTRIBUTING.md", "project/contributing.md") == shown


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe", reason="the site needs the extra recbole_sce[docs]")
    as_markdown = runpy.run_path(str(CODE / "docstrings.py"))["as_markdown"]
    text = "See :class:`Histories` and :func:`~a.b.name`, ``x``::\n\n    y"
    assert as_markdown(text) == "See `Histories` and `name`, `x`:\n\n    y"


@pytest.mark.slow
@pytest.mark.nightly
def test_the_site_builds_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason="the site needs the extra recbole_sce[docs]")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["mkdocs"])
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    assert (tmp_path / "concepts" / "sce" / "index.html").is_file()
