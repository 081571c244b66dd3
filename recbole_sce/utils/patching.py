"""How a repair takes hold of RecBole: a function is wrapped where it lives, and knows the original."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Callable

_active: dict[str, str] = {}


def run(repairs: Iterable[Callable[[], bool]]) -> None:
    """Apply each repair that is needed and was not applied before; a repair returns whether it was needed."""
    for repair in repairs:
        if repair.__name__ not in _active and repair():
            _active[repair.__name__] = (repair.__doc__ or "").strip().split("\n")[0]


def active() -> list[tuple[str, str]]:
    """Return the repairs in force in this process: (name, what it does)."""
    return list(_active.items())


def wrap(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replace ``owner.name`` by the decorated function, which gets the original as its first argument.

    The replacement's ``__wrapped__`` is the original.
    """

    def decorate(new: Callable[..., Any]) -> Callable[..., Any]:
        original = getattr(owner, name)

        @functools.wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            return new(original, *args, **kwargs)

        setattr(owner, name, replacement)
        return replacement

    return decorate


def wrap_everywhere(owner: ModuleType, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """:func:`wrap` a module's function, also in all modules that have imported it by its name."""

    def decorate(new: Callable[..., Any]) -> Callable[..., Any]:
        original = getattr(owner, name)
        replacement = wrap(owner, name)(new)
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get(name) is original:
                setattr(module, name, replacement)
        return replacement

    return decorate


class _Seen(ModuleType):
    """A library as one module of RecBole sees it: some names replaced, all others the library's own."""

    def __init__(self, library: Any, replacements: dict[str, Any]) -> None:
        super().__init__(library.__name__, f"{library.__name__}, with {', '.join(replacements)} replaced.")
        self.__dict__.update(replacements)
        self.__dict__["__wrapped__"] = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["__wrapped__"], name)


def seen(library: Any, **replacements: Any) -> ModuleType:
    """Return ``library`` with ``replacements`` in place of its own names; ``library`` itself is untouched."""
    return _Seen(library, replacements)
