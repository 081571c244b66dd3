"""The trainer of plugin models."""

from __future__ import annotations

from recbole.trainer import Trainer


class SCETrainer(Trainer):  # type: ignore[misc]
    """RecBole's trainer, for models whose catalogue is large."""
