"""The page of all models: ``python -m recbole_sce.model.table > docs/reference/models.md``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from recbole_sce.model import MODELS, NOT_SERVED, SCEMixin

_TITLE = """\
# Models

<!-- Made from the code by: python -m recbole_sce.model.table > docs/reference/models.md -->

A variant is RecBole's sequential recommender of the same name without `SCE`. It has its base's encoder,
parameters and settings. The loss that `loss_type` names takes the place of the item softmax. Row 0,
RecBole's padding item, is never a candidate.

Scores are products of hidden states and one table, in training as in evaluation.

*Positions* says what a row trains: `all` of its positions in one pass, or the `last` one, as in RecBole.
Where both are given, `all` is the default.

A model of your own takes a [few lines](../guides/own-model.md).
"""


def models_markdown() -> str:
    """Return the documentation page of models: what each trains, scores and adds, and which are left out."""
    described = {cls.__name__: _describe(cls) for cls in MODELS}
    overview = _rows(
        ("Model", "Encoder", "Positions"),
        ((f"[`{name}`](#{name.lower()})", facts[0], facts[1]) for name, facts in described.items()),
    )
    sections = "\n".join(_section(name, *facts) for name, facts in described.items())
    left_out = _rows(("RecBole's model", "Why"), ((f"`{name}`", why) for name, why in NOT_SERVED.items()))
    return f"{_TITLE}\n{overview}\n## One by one\n\n{sections}\n## Not served\n\n{left_out}"


def _section(name: str, encoder: str, positions: str, table: str, extra: str, notes: str) -> str:
    facts = [("Positions", positions), ("Table scored", table), ("Beside the item softmax", extra)]
    lines = [f"- {title}: {fact}" for title, fact in facts if fact]
    text = [f"### {name}", "", f"{encoder}.", "", *lines, *(["", f"{notes}."] if notes else [])]
    return "\n".join(text) + "\n"


def _describe(cls: type[SCEMixin]) -> tuple[str, str, str, str, str]:
    encoder, _, notes = inspect.getdoc(cls).partition("\n\n")  # type: ignore[union-attr]
    if cls.training_states is not SCEMixin.training_states:
        positions = _returned(cls.training_states)
    else:
        positions = "`last`" if cls.trains() == "last" else "`all`, `last`"
    table = "`item_embedding`" if cls.item_table is SCEMixin.item_table else _returned(cls.item_table)
    extra = "" if cls.extra_loss is SCEMixin.extra_loss else _returned(cls.extra_loss)
    return _plain(encoder), positions, table, extra, _plain(notes)


def _returned(method: Callable[..., Any]) -> str:
    """Return what the first line of ``method``'s docstring says that it returns."""
    first_line = (inspect.getdoc(method) or "").split("\n\n")[0]
    return _plain(first_line[len("Return ") :])


def _plain(text: str) -> str:
    return " ".join(re.sub(r":\w+:`", "`", text).replace("``", "`").split()).rstrip(".")


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    print(models_markdown(), end="")
