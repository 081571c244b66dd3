"""Rules for the package's files that ruff and import-linter do not know."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from groups import PROCESSES, SHARED_DATA

import recbole_sce

ROOT = Path(__file__).parents[1]
PACKAGE = Path(recbole_sce.__file__).parent
LONGEST = 400
#: Files that are longer, each with its reason.
LONGER = {
    "data/dataset.py": "the steps of RecBole's data set class, which are overridden in one subclass",
    "inference/recommender.py": "one class; what it searches with lies in evaluator",
    "loss/ops/triton_kernels.py": "kernels that share their blocks, with the code that starts them",
}
#: Names that tell how a value was come by, and not what it is.
TELL_NOTHING = {"found", "said", "told", "wanted"}


def names_bound(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and name of the variables, parameters, fields and attributes that a file binds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.ExceptHandler):
            yield node.lineno, node.name or ""
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            place = {"parametrize": 0, "namedtuple": 1, "NamedTuple": 1}.get(called, len(node.args))
            for part in (each for names in node.args[place : place + 1] for each in ast.walk(names)):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield from ((part.lineno, name) for name in part.value.replace(",", " ").split())


def that_tell_nothing(source: str) -> list[tuple[int, str]]:
    return sorted((line, name) for line, name in names_bound(source) if name.lstrip("_") in TELL_NOTHING)


def unpacked_literals(source: str) -> list[int]:
    """Return the lines of ``*("a", "b")`` and ``**{"a": 1}``, which put several entries on one line."""
    return [
        part.lineno
        for node in ast.walk(ast.parse(source))
        for part in (
            [value for key, value in zip(node.keys, node.values) if key is None]
            if isinstance(node, ast.Dict)
            else [entry.value for entry in node.elts if isinstance(entry, ast.Starred)]
            if isinstance(node, (ast.Tuple, ast.List, ast.Set))
            else []
        )
        if isinstance(part, (ast.Dict, ast.Tuple, ast.List))
    ]


def test_a_file_holds_one_idea() -> None:
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {file for file, length in lengths.items() if length > LONGEST} == set(LONGER)


def test_a_name_says_what_the_value_is() -> None:
    assert not [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for folder in ("recbole_sce", "benchmarks", "examples", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in that_tell_nothing(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "found: int",
        "told += 1",
        "_wanted = said.value = 1",
        "first, (*found, last) = rows",
        "for place, found in rows: pass",
        "with open(file) as told: pass",
        "rows = [said for said in lines]",
        "if (found := find()): pass",
        "try: pass\nexcept OSError as told: pass",
        "def contains(ordered, *, wanted=None): pass",
        "largest = max(rows, key=lambda found: found.size)",
        "class Row(NamedTuple):\n    found: int",
        "Row = namedtuple('Row', ['place', 'found'])",
        "@pytest.mark.parametrize(('given', 'said'), [])\ndef test(**arguments): pass",
        "@pytest.mark.parametrize('given, said', [])\ndef test(**arguments): pass",
    ],
)
def test_names_that_tell_nothing_are_caught(source: str) -> None:
    assert that_tell_nothing(source)


@pytest.mark.parametrize(
    "source",
    [
        "rows = found",
        "'found, said, told and wanted'  # found = 1",
        "_found(said.told)",
        "@pytest.mark.parametrize('way', ['found', 'named'])\ndef test(way): pass",
    ],
)
def test_other_uses_of_these_words_are_none(source: str) -> None:
    assert not that_tell_nothing(source)


def test_entries_stand_on_lines_of_their_own() -> None:
    assert not [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("recbole_sce", "benchmarks", "examples", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in unpacked_literals(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("source", ['rows = ["a", *("b", "c")]', 'row = {"a": 1, **{"b": 2}}'])
def test_entries_of_an_unpacked_literal_are_caught(source: str) -> None:
    assert unpacked_literals(source) == [1]


@pytest.mark.parametrize("source", ["rows = [*others, *(one for one in rows)]", "run(*arguments, **{})"])
def test_unpacking_a_value_is_no_such_thing(source: str) -> None:
    assert not unpacked_literals(source)


def test_files_of_a_group_are_there() -> None:
    assert not [file for file in (*PROCESSES, *SHARED_DATA) if not (ROOT / "tests" / file).exists()]
