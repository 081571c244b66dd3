"""The SCE paper's temporal split: users who are active after a point in time are tested, all others train.

``temporal_holdout: q`` beside ``eval_args: {split: {LS: valid_and_test}}`` means, as in the paper's code:

* The point in time is the q-quantile of all time stamps. Users with an interaction from it on are test users.
* Nothing of a test user is trained on. Of test users only what happened from that point on is kept, and of
  that only items that some training user has; a test user needs three such interactions.
* Of these the last is the test target, the one before it the validation target, the rest is the history.
* All other users train, with all of their interactions.

It works for every sequential model, RecBole's own too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from recbole_sce.data.splits import Rows, last_rows

if TYPE_CHECKING:
    from recbole.config import Config

#: The configuration key.
KEY = "temporal_holdout"
#: A history, a validation target and a test target.
_FEWEST = 3


def check_temporal_holdout(config: Config) -> None:
    """Refuse what cannot be split so, before any data is read.

    Raises:
        ValueError: the quantile is not between 0 and 1, the model is not sequential, or another key asks
            for another split.
    """
    from recbole.utils import ModelType

    value = config[KEY]
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise ValueError(f"{KEY} must be a number above 0 and below 1, or null, got {value!r}")
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        raise ValueError(
            f"{KEY} must be null with {config['model']}, got {value}: only sequential models rank for users "
            "that they were not trained on"
        )
    if config["benchmark_filename"] is not None:
        raise ValueError(
            f"{KEY} must be null with benchmark_filename, got {value}: those files are a split already"
        )
    split = config["eval_args"]["split"]
    if split != {"LS": "valid_and_test"}:
        raise ValueError(
            f"{KEY} must be null with eval_args split {split!r}, got {value}: it needs {{'LS': "
            "'valid_and_test'}}, which then applies to the test users alone"
        )


def temporal_rows(
    users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], times: npt.NDArray[Any], quantile: float
) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """Choose the interactions that are kept, and whose they are.

    Args:
        users: (n,) numbers of users from 0.
        items: (n,) numbers of items from 0.
        times: (n,) time stamps.
        quantile: of the point in time.

    Returns:
        Row numbers (m,) in ascending order, and whether each row's user is a test user (m,).
    """
    point = pd.Series(times).quantile(quantile, interpolation="nearest")
    late = times >= point
    of_test = np.isin(users, users[late])
    known = np.isin(items, items[~of_test])
    candidates = of_test & late & known
    enough = np.bincount(users[candidates], minlength=int(users.max(initial=-1)) + 1) >= _FEWEST
    kept = np.flatnonzero(~of_test | (candidates & enough[users]))
    return kept, of_test[kept]


def hold_out(dataset: Any) -> None:
    """Drop what the split leaves out from a RecBole data set that has just been filtered.

    The ids of the test users are kept in ``dataset.held_out_users``.

    Raises:
        ValueError: no user is left to train on, or none to test.
    """
    quantile = dataset.config[KEY]
    if quantile is None:
        return
    table = dataset.inter_feat
    users, items = (pd.factorize(table[field])[0] for field in (dataset.uid_field, dataset.iid_field))
    rows, of_test = temporal_rows(users, items, table[dataset.time_field].to_numpy(), quantile)
    for part, of_part in (("train on", ~of_test), ("test", of_test)):
        if not of_part.any():
            raise ValueError(
                f"{dataset.dataset_name}: {KEY}: {quantile} leaves no user to {part}; test users are those "
                f"with at least {_FEWEST} interactions from that quantile of {dataset.time_field} on, with "
                "items that other users have"
            )
    dataset.inter_feat = table.take(rows).reset_index(drop=True)
    dataset.held_out_users = np.unique(np.asarray(table[dataset.uid_field])[rows[of_test]])


def holdout_parts(dataset: Any) -> list[Rows]:
    """Return the rows of training, validation and test of a data set that :func:`hold_out` has seen."""
    users = dataset.inter_feat[dataset.uid_field].numpy()
    held_out = np.isin(users, dataset.token2id(dataset.uid_field, dataset.held_out_users))
    rows = np.flatnonzero(held_out)
    return [np.flatnonzero(~held_out), *(rows[part] for part in last_rows(users[rows], 2))]
