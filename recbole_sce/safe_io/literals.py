"""Settings that come as text: which value a text stands for, found without evaluating it as code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from recbole_sce.errors import RecboleSCEError

#: How large a whole number may become by ``**`` (in bits), and a list by ``*`` (in entries).
_MOST_BITS, _MOST_ENTRIES = 4096, 4096

_Number = (int, float, complex)
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


class NotLiteralError(RecboleSCEError, ValueError):
    """A text that is no plain value.

    Attributes:
        is_code: whether it reads as Python that would do something: a call, a lambda, a comprehension.
    """

    def __init__(self, text: str, is_code: bool = False) -> None:
        super().__init__(
            f"{text!r} is no plain value: numbers (and their sums, products, powers), quoted strings, True, "
            "False, None, and lists, tuples, dicts and sets of these are"
        )
        self.is_code = is_code


def read_literal(text: str, names: Mapping[str, Any]) -> Any:
    """Return the value that ``text`` stands for in Python.

    Numbers, strings, True, False, None, and lists, tuples, dicts and sets of these; arithmetic on numbers
    (``5*2``, ``1/3``, ``2**10``) and repetition of lists (``[64]*3``); and ``names``, which may be dotted.

    Raises:
        NotLiteralError: it is something else. Nothing of it has been run.
    """
    try:
        tree = ast.parse(text.lstrip(" \t"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise NotLiteralError(text) from None
    try:
        return _value(tree, names)
    except (_Unreadable, ArithmeticError, TypeError, RecursionError):
        code = (ast.Call, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
        raise NotLiteralError(text, any(isinstance(node, code) for node in ast.walk(tree))) from None


class _Unreadable(Exception):
    """A part of a text that is no plain value."""


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [_value(item, names) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item, names) for item in node.elts)
    if isinstance(node, ast.Set):
        return {_value(item, names) for item in node.elts}
    if isinstance(node, ast.Dict):
        if None in node.keys:  # {**other}
            raise _Unreadable
        return {
            _value(key, names): _value(value, names)
            for key, value in zip(node.keys, node.values)
            if key is not None
        }
    if isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS:
        return _SIGNS[type(node.op)](_value(node.operand, names))
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _computed(node.op, _value(node.left, names), _value(node.right, names))
    if isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in names:
        return names[ast.unparse(node)]
    raise _Unreadable


def _computed(op: ast.operator, left: Any, right: Any) -> Any:
    both_numbers = isinstance(left, _Number) and isinstance(right, _Number)
    if both_numbers and isinstance(op, ast.Pow) and isinstance(left, int) and isinstance(right, int):
        if abs(left).bit_length() * abs(right) > _MOST_BITS:
            raise _Unreadable
    elif not both_numbers:
        repeated = isinstance(op, ast.Mult) and isinstance(left, (list, tuple)) and isinstance(right, int)
        if not repeated or len(left) * right > _MOST_ENTRIES:
            raise _Unreadable
    return _ARITHMETIC[type(op)](left, right)
