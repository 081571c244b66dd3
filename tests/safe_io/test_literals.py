"""Which value a text stands for."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import pytest

from recbole_sce.safe_io.literals import NotLiteralError, read_literal

NAMES = {"Kind.ONE": 1}

VALUES = {
    "5": 5,
    "-1": -1,
    "+2.5": 2.5,
    "1e-3": 1e-3,
    "1_000": 1000,
    "  7": 7,
    "5*2": 10,
    "1/3": 1 / 3,
    "10//3": 3,
    "7%4": 3,
    "2**10": 1024,
    "2**-1": 0.5,
    "-(1+2)*3": -9,
    "True": True,
    "None": None,
    "'a'": "a",
    "'a' \"b\"": "ab",
    "[]": [],
    "[64]*3": [64, 64, 64],
    "(1,)*2": (1, 1),
    "[1, 'a', None, [2.0]]": [1, "a", None, [2.0]],
    "0,1": (0, 1),
    "{'LS': 'valid_and_test', 'x': {1: (2,)}}": {"LS": "valid_and_test", "x": {1: (2,)}},
    "{1, 2}": {1, 2},
    "Kind.ONE": 1,
    "[Kind.ONE]": [1],
    "5 # five": 5,
}

TEXTS = [
    "",
    "saved",
    "a/b",
    "./saved",
    "ml-100k",
    "true",
    "null",
    "[0,inf)",
    "(0,inf)",
    "[a]",
    "[1,",
    "0777",
    "Kind.TWO",
    "Kind",
    "os.path",
    "nan",
    "1 if True else 2",
    "not True",
    "[1][0]",
    "f'{1}'",
    "{**{}}",
    "1/0",
    "2.0**10000",
    "9**9**9",
    "10**10**10",
    "[0]*10**9",
    "'a'*10**9",
    "[1]+[2]",
    "'%s' % 1",
    "{[1]: 2}",
    "-'a'",
    "\x00",
    "(" * 500,
    "-" * 3000 + "1",
    "x := 1",
    "a = 1",
    "import os",
]

CODE = [
    "__import__('os').mkdir({path!r})",
    "[__import__('os').mkdir({path!r})]",
    "{{'a': __import__('os').mkdir({path!r})}}",
    "eval(\"__import__('os').mkdir({path!r})\")",
    "(lambda: __import__('os').mkdir({path!r}))()",
    "[__import__('os').mkdir(path) for path in [{path!r}]]",
    "{{path: __import__('os').mkdir(path) for path in [{path!r}]}}",
    "().__class__.__base__.__subclasses__()",
    "5*__import__('os').mkdir({path!r})",
    "open({path!r}, 'w')",
    "lambda: 0",
    "dict(a=1)",
]


@pytest.mark.parametrize(("text", "value"), VALUES.items(), ids=VALUES)
def test_values(text: str, value: object) -> None:
    read = read_literal(text, NAMES)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:20]))
def test_no_values(text: str) -> None:
    with pytest.raises(NotLiteralError, match="is no plain value: numbers") as error:
        read_literal(text, NAMES)
    assert not error.value.is_code


@pytest.mark.parametrize("text", CODE)
def test_code_is_told_apart_and_not_run(text: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    with pytest.raises(NotLiteralError) as error:
        read_literal(text.format(path=str(made)), NAMES)
    assert error.value.is_code
    assert not made.exists()
    with suppress(TypeError):  # 5 * None
        eval(text.format(path=str(made)))
    assert made.exists() or "path" not in text  # so it would have run


def test_not_a_number_is_no_number() -> None:
    assert math.isinf(read_literal("1e999", {}))
