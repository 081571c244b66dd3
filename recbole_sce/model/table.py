"""The page of all models: ``python -m recbole_sce.model.table > docs/reference/models.md``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from recbole_sce.model import MODELS, NOT_SERVED, SCEMixin

_TITLE = """\
# Models

<!-- Made from the code by: python -m recbole_sce.model.table > docs/reference/models.md -->

Each is RecBole's sequential recommender of the same name without `SCE`: its encoder, its parameters, its
configuration keys. Its item softmax is replaced by the loss that `loss_type` names (SCE, CE, CE-, gBCE or
BCE; `auto` chooses SCE or CE), which leaves out row 0, RecBole's padding item. RecBole's built-in softmax
counts it as an item.
Scores, in training as in evaluation, are products of hidden states and the table scored.

Positions: with `train_positions: all` every position of a sequence predicts its next item in one pass;
with `last` each row predicts one, as in RecBole. Where both are given, `all` is the default.

A model of your own takes a few lines: examples/custom_model.py. One that extends SASRecSCE with a loss of
its own needs `target_discount: 0`, or `LaterTargetsLoss(loss, discount)`, if the loss's sum over items holds
those of each row.
"""


def models_markdown() -> str:
    """Return the documentation page of models: what each trains, scores and adds, and which are left out."""
    served = _rows(
        ("Model", "Encoder", "Positions", "Table scored", "Beside the item softmax", "Notes"),
        ((f"`{cls.__name__}`", *_describe(cls)) for cls in MODELS),
    )
    left_out = _rows(("RecBole's model", "Why"), ((f"`{name}`", why) for name, why in NOT_SERVED.items()))
    return f"{_TITLE}\n{served}\n## Not served\n\n{left_out}"


def _describe(cls: type[SCEMixin]) -> tuple[str, str, str, str, str]:
    encoder, _, notes = inspect.getdoc(cls).partition("\n\n")  # type: ignore[union-attr]
    if cls.training_states is not SCEMixin.training_states:
        positions = _returned(cls.training_states)
    else:
        positions = "`all`, `last`" if cls.causal else "`last`"
    table = "`item_embedding`" if cls.item_table is SCEMixin.item_table else _returned(cls.item_table)
    extra = "" if cls.extra_loss is SCEMixin.extra_loss else _returned(cls.extra_loss)
    return _plain(encoder), positions, table, extra, _plain(notes)


def _returned(method: Callable[..., Any]) -> str:
    """Return what the first line of ``method``'s docstring says that it returns."""
    first_line = (inspect.getdoc(method) or "").split("\n\n")[0]
    return _plain(first_line[len("Return ") :])


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).rstrip(".")


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    print(models_markdown(), end="")
