"""``recbole-sce models``: what ``--model`` may name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, cast

from recbole_sce.cli.loading import load_plugin

if TYPE_CHECKING:
    from recbole_sce.model import SCEMixin


def models() -> None:
    """List the models of recbole_sce, and RecBole's own.

    Example:
    - recbole-sce models
    """
    from rich.console import Console
    from rich.table import Table

    load_plugin()
    from recbole_sce.model import NOT_SERVED
    from recbole_sce.plugin import base_of, registered_models

    plugin = registered_models()
    table = Table(
        "model", "base", "positions", "encoder", title="recbole_sce: trained by SCE, CE, CE-, gBCE or BCE"
    )
    for name, cls in sorted(plugin.items(), key=lambda item: item[0].lower()):
        encoder = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").rstrip(".")
        positions = "last" if cast("type[SCEMixin]", cls).trains() == "last" else "all, last"
        table.add_row(name, base_of(cls).__name__, positions, encoder)
    console = Console()
    console.print(table)
    console.print(
        "positions: with train_positions=all one pass over a sequence predicts every next item; with last, "
        "as in RecBole, a row predicts one. The first is the default.\n"
    )
    built_in = Table("kind", "models", title="RecBole's own", show_lines=True)
    for kind, names in recbole_models().items():
        built_in.add_row(kind, ", ".join(name for name in names if name not in plugin))
    console.print(built_in)
    console.print("\nSequential models of RecBole without a variant:")
    for name, reason in NOT_SERVED.items():
        console.print(f"  {name}: {reason}")


def recbole_models() -> dict[str, list[str]]:
    """Return the names of RecBole's own models, by kind."""
    import importlib

    from recbole.model.abstract_recommender import AbstractRecommender

    kinds = {}
    for kind in ("sequential", "general", "context_aware", "knowledge_aware"):
        package = importlib.import_module(f"recbole.model.{kind}_recommender")
        kinds[kind.replace("_", "-")] = sorted(
            name
            for name, cls in vars(package).items()
            if inspect.isclass(cls)
            and issubclass(cls, AbstractRecommender)
            and cls.__module__.startswith(package.__name__)
        )
    return kinds
