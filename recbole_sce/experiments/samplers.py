"""Optuna's samplers, which draw the settings of a trial, and its pruners, which end bad trials."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_sce.experiments.space import Space

ALGORITHMS = ("exhaustive", "random", "bayes")
PRUNERS = ("median", "halving", "none")
#: The median pruner begins after so many trials, and leaves a trial so many epochs.
_PRUNER_TRIALS, _PRUNER_EPOCHS = 5, 5


def sampler_of(algorithm: str, space: Space, seed: int, trial: int) -> Any:
    """Return Optuna's sampler for one trial: its draws depend on seed, number and the trials before alone."""
    from optuna import samplers

    if algorithm == "exhaustive":

        class Grid(samplers.GridSampler):
            def after_trial(self, *_: Any) -> None:
                """Do nothing: Optuna's would stop ``study.optimize``, which does not run."""

        return Grid(space.grid(), seed=seed)
    own = int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])
    return samplers.RandomSampler(own) if algorithm == "random" else samplers.TPESampler(seed=own)


def pruner_of(name: str) -> Any:
    """Return Optuna's pruner of one of the names :data:`PRUNERS`."""
    from optuna import pruners

    if name == "median":
        return pruners.MedianPruner(n_startup_trials=_PRUNER_TRIALS, n_warmup_steps=_PRUNER_EPOCHS)
    return pruners.SuccessiveHalvingPruner() if name == "halving" else pruners.NopPruner()
