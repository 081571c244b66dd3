"""Training and evaluation of plugin models."""

from recbole_sce.training.trainer import SCETrainer

__all__ = ["SCETrainer"]
