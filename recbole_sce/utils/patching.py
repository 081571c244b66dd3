"""How a patch takes hold of RecBole: a function is wrapped where it lives, and knows the original."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Patch:
    """A change of RecBole 1.2.1 that mends it. Calling it applies it, and returns whether it was needed.

    Attributes:
        name: of the function that applies it.
        purpose: what works with it, one sentence.
        symptom: what a user meets without it.
        cause: why.
        where: file of RecBole's package, class and function.
        needed: from which version of which library on; "always" where RecBole alone is the reason.
        link: to a public report; empty where none is known.
        apply: changes RecBole if that is needed.
    """

    name: str
    purpose: str
    symptom: str
    cause: str
    where: str
    needed: str
    link: str
    apply: Callable[[], bool]

    def __call__(self) -> bool:
        """Apply the patch if it is needed."""
        return self.apply()


def patch(
    *, symptom: str, cause: str, where: str, needed: str = "always", link: str = ""
) -> Callable[[Callable[[], bool]], Patch]:
    """Make a :class:`Patch` of a function that applies it; the first line of its docstring is the purpose."""

    def decorate(apply: Callable[[], bool]) -> Patch:
        purpose = (apply.__doc__ or "").strip().split("\n")[0]
        return Patch(apply.__name__, purpose, symptom, cause, where, needed, link, apply)

    return decorate


_active: dict[str, Patch] = {}


def run(patches: Iterable[Patch]) -> None:
    """Apply each patch that is needed and was not applied before, in this order."""
    for each in patches:
        if each.name not in _active and each():
            _active[each.name] = each


def active() -> list[Patch]:
    """Return the patches in force in this process, in the order in which they were applied."""
    return list(_active.values())


def markdown(patches: Iterable[Patch]) -> str:
    """Return a list of patches in Markdown, with a section for each."""
    patches = list(patches)
    lines = ["| patch | needed from |", "|---|---|"]
    lines += [f"| [{each.name}](#{each.name}) | {each.needed} |" for each in patches]
    for each in patches:
        lines += ["", f"### {each.name}", "", f"- Symptom: {each.symptom}"]
        lines += [
            f"- Cause: {each.cause}",
            f"- Where in RecBole: {each.where}",
            f"- Needed from: {each.needed}",
        ]
        lines += [f"- Reported: <{each.link}>"] if each.link else []
    return "\n".join(lines) + "\n"


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
