"""The laboratory stays outside: nothing that is installed knows of it, or of the pages of this repository."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "recbole_sce"
MODULES = sorted(PACKAGE.rglob("*.py"))
LABORATORY = {"harness", "robustness", "studies", "benchmarks", "bench"}
FOLDERS = ("docs/", "benchmarks/")


def texts_in_code(tree: ast.Module) -> list[str]:
    """Return the strings of a module that are not docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_needs_the_laboratory(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    ]
    assert not [
        name for name in imported if LABORATORY & set(name.removeprefix("recbole_sce.").split(".")[:1])
    ]
    assert not [text for text in texts_in_code(tree) if text.startswith(FOLDERS)]
