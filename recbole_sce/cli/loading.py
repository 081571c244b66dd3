"""What a command needs that help and the checks of its options do not: torch, RecBole and the plugin."""

from __future__ import annotations


def load_plugin() -> None:
    """Register the plugin with RecBole, which ``import recbole_sce`` leaves to the commands of recbole-sce.

    To be called before any module that imports RecBole.
    """
    from recbole_sce.plugin import register

    register()
