"""The name under which release 0.1.0 had :mod:`recbole_sce.inference.recommender`."""

from recbole_sce.inference.recommender import RecommendationError, Recommender, Skipped, TopItems

__all__ = ["RecommendationError", "Recommender", "Skipped", "TopItems"]
