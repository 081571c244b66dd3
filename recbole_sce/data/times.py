"""The order of interactions: decided on the times of the file, whatever becomes of their column.

``normalize_field``, ``discretization``, ``numerical_features`` and ``threshold`` change or remove TIME_FIELD,
and tensors round it to float32. The times are noted before, and serve until the data is split.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]

#: Attributes of a data set: its times in the order of its table; then by user, each user's ascending.
_OF_TABLE = "times_of_table"
_BY_USER = "times_by_user"


def note(dataset: Any) -> None:
    """Note the times of a data set whose table is filtered and not changed otherwise."""
    table = dataset.inter_feat
    if dataset.benchmark_filename_list is None and dataset.time_field in table:
        vars(dataset)[_OF_TABLE] = table[dataset.time_field].to_numpy()


def of_table(dataset: Any) -> Times | None:
    """Return the times (n,) of a table, a ``DataFrame``; None if it has none, or no numbers.

    Raises:
        ValueError: only buckets are left of them, in a data set that was saved without them.
    """
    noted: Times | None = vars(dataset).get(_OF_TABLE)
    if noted is not None:
        return noted
    time, table = dataset.time_field, dataset.inter_feat
    if time not in table:
        return None
    if time in (dataset.config["discretization"] or ()):
        raise ValueError(
            f"discretization: the saved data set {dataset.dataset_name} has only buckets of {time} "
            "(TIME_FIELD) and not its order; delete its file, so that it is made anew"
        )
    values = table[time].to_numpy()
    if values.dtype == object:  # numerical_features: (value, 1)
        values = np.array(values.tolist())[:, 0]
    return values if np.issubdtype(values.dtype, np.number) else None


def keep_by_user(dataset: Any, users: npt.NDArray[Any], times: Times) -> None:
    """Keep ``times`` (n,) for the time of splitting, with the ``users`` (n,) in whose order they are."""
    vars(dataset).pop(_OF_TABLE, None)
    vars(dataset)[_BY_USER] = (times, np.bincount(users, minlength=dataset.user_num))


def of_rows(dataset: Any) -> Times | None:
    """Return the times (m,) of the rows of a data set that is about to be split; None if it was before.

    A user's rows are in the order of time, and are the user's last interactions: all of them, or, where rows
    predict, all but the first.
    """
    kept = vars(dataset).get(_BY_USER)
    if kept is None:
        return None
    times, counts = kept
    users = dataset.inter_feat[dataset.uid_field].numpy()
    order = np.argsort(users, kind="stable")  # (m,) row numbers, user by user
    n_rows = np.bincount(users, minlength=len(counts))
    ends, row_ends = np.cumsum(counts), np.cumsum(n_rows)
    # From the end of a user's rows, and so from the end of the user's interactions.
    from_end = row_ends[users[order]] - np.arange(len(order))
    result = np.empty(len(order))
    result[order] = times[ends[users[order]] - from_end]
    return result


def are_kept(dataset: Any) -> bool:
    """Say whether a data set is in the order of time, and is still to be split."""
    return _BY_USER in vars(dataset)


def forget(dataset: Any) -> None:
    """Drop the times of a data set that has been split."""
    vars(dataset).pop(_BY_USER, None)
