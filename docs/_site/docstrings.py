"""Docstrings of the package for the site: roles and double backticks of reStructuredText become Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

#: ``:class:`~a.b.Name``` and the like, of which the name is shown.
_ROLE = re.compile(r":(?:py:)?\w+:`(~?)([^`]+)`")


def as_markdown(text: str) -> str:
    """Return a docstring's text in Markdown."""
    text = _ROLE.sub(lambda match: f"`{_shown(*match.groups())}`", text)
    text = text.replace("``", "`")
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


def _shown(tilde: str, name: str) -> str:
    return name.rpartition(".")[2] if tilde else name


class PlainDocstrings(griffe.Extension):
    """Rewrites each docstring as it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
