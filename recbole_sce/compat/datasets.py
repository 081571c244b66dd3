"""Patches of RecBole's data sets: missing values, the order of interactions, downloads."""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch

from recbole_sce.utils.patching import patch, seen, wrap


@patch(
    symptom=(
        "NaN stays in float fields, the padding row of token fields becomes a huge negative number, "
        "empty sequences fail"
    ),
    cause="frame[field].fillna(..., inplace=True) changes a copy",
    where="data/dataset/dataset.py: Dataset._fill_nan, _load_feat",
    needed="pandas 3, or copy on write in pandas 2",
)
def missing_values() -> bool:
    """Fill missing values under pandas 3, which ignores ``frame[field].fillna(..., inplace=True)``."""
    probe = pd.DataFrame({"a": [float("nan")]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probe["a"].fillna(0.0, inplace=True)
    if not probe["a"].isna().any():
        return False
    from recbole.data.dataset import dataset
    from recbole.utils import FeatureType

    @wrap(dataset.Dataset, "_fill_nan")
    def fill_nan(original: Callable[..., Any], self: Any) -> None:
        for feat in (getattr(self, name) for name in self.feat_name_list):
            for field in feat:
                if self.field2type[field] == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0)
                elif self.field2type[field] == FeatureType.FLOAT:
                    feat[field] = feat[field].fillna(feat[field].mean())
        with _quiet():
            original(self)

    @wrap(dataset.Dataset, "_load_feat")
    def load_feat(original: Callable[..., Any], self: Any, *args: Any) -> Any:
        with _quiet():
            return original(self, *args)

    @wrap(dataset.Dataset, "_dataframe_to_interaction")
    def dataframe_to_interaction(original: Callable[..., Any], self: Any, data: pd.DataFrame) -> Any:
        with _quiet():
            return original(self, data)

    def read_csv(*args: Any, **kwargs: Any) -> pd.DataFrame:
        frame: pd.DataFrame = pd.read_csv(*args, **kwargs)
        for column in frame.columns:  # still "field:type", as in the file
            if column.endswith("_seq"):
                frame[column] = frame[column].fillna("")
        return frame

    dataset.pd = seen(pd, read_csv=read_csv)
    return True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence pandas on statements that do nothing any more, and torch on frames that nobody writes to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*A value is (trying to be|being) set on a copy")
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        yield


@patch(
    symptom="token sequences are cut wrongly, benchmark files fail",
    cause="Series.agg(len) is one number where RecBole means one length per element",
    where="data/dataset/dataset.py: Dataset._remap, _normalize; sequential_dataset.py: _benchmark_presets",
    needed="pandas 3",
)
def lengths_of_sequences() -> bool:
    """Take the lengths of sequences under pandas 3, whose ``Series.agg(len)`` is one number.

    RecBole gets lengths while it prepares its data; elsewhere ``Series.agg`` is pandas'.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lengths = pd.Series([[1, 2], [3]]).agg(len)
    if not isinstance(lengths, int):
        return False
    from recbole.data.dataset import Dataset, SequentialDataset

    for owner, name in ((Dataset, "_data_processing"), (SequentialDataset, "_benchmark_presets")):

        @wrap(owner, name)
        def prepare(original: Callable[..., Any], self: Any) -> None:
            pandas_agg: Any = vars(pd.Series)["agg"]

            def agg(series: Any, func: Any = None, *args: Any, **kwargs: Any) -> Any:
                return series.map(len) if func is len else pandas_agg(series, func, *args, **kwargs)

            with mock.patch.object(pd.Series, "agg", agg):
                original(self)

    return True


@patch(
    symptom="histories are in a wrong order, or in the order of the file",
    cause="timestamps are rounded to float32, to 64 or 128 seconds, before they are sorted",
    where=(
        "data/dataset/dataset.py: Dataset._dataframe_to_interaction, build; sequential_dataset.py: "
        "data_augmentation"
    ),
    link="https://github.com/RUCAIBox/RecBole/issues/2204",
)
def exact_time_order() -> bool:
    """Order interactions by the times of the file, whatever becomes of their column.

    With ``discretization`` of TIME_FIELD all sorts see ones. Times are noted before
    ``Dataset._set_label_by_threshold``, the first that changes a column. The table is sorted by them, ties in
    the order of the file, and what is augmented keeps that order, because RecBole's sorts are stable.
    Applies to time-ordered data sets (``eval_args.order: TO``).
    """
    from recbole.data.dataset import Dataset

    from recbole_sce.data import times

    @wrap(Dataset, "_set_label_by_threshold")
    def set_label_by_threshold(original: Callable[..., Any], self: Any) -> None:
        if self.time_field is not None:
            times.note(self)
        original(self)

    @wrap(Dataset, "_change_feat_format")
    def change_feat_format(original: Callable[..., Any], self: Any) -> None:
        # Parts of a benchmark are cut by position, and must not be mixed.
        if self.config["eval_args"]["order"] == "TO" and self.benchmark_filename_list is None:
            moments, frame = times.of_table(self), self.inter_feat
            if moments is not None and isinstance(frame, pd.DataFrame):
                order = np.argsort(moments, kind="stable")
                self.inter_feat = frame.iloc[order].reset_index(drop=True)
                if self.uid_field is not None:
                    users = self.inter_feat[self.uid_field].to_numpy()
                    by_user = np.argsort(users, kind="stable")
                    times.keep_by_user(self, users[by_user], moments[order[by_user]])
        original(self)

    return True


@patch(
    symptom="a split by time fails or ignores the order where TIME_FIELD is normalized or discretized",
    cause="rows are sorted and compared by the column as it is after all changes",
    where="data/dataset/dataset.py: Dataset.build, sort, time_based_split",
)
def exact_time_split() -> bool:
    """Sort and split rows by the times of the file that :func:`exact_time_order` has noted.

    ``Dataset.build`` sorts rows by a column that is rounded, or buckets, by then, and
    ``Dataset.time_based_split`` compares it with a boundary. Applies to time-ordered data sets.
    """
    from recbole.data.dataset import Dataset

    from recbole_sce.data import times
    from recbole_sce.data.splits import time_rows

    @wrap(Dataset, "sort")
    def sort(original: Callable[..., Any], self: Any, by: Any, ascending: Any = True) -> None:
        moments = times.of_rows(self) if ascending is True and by == self.time_field else None
        if moments is not None:
            self.inter_feat._reindex(torch.from_numpy(np.argsort(moments, kind="stable")))
        elif ascending is not True or not times.are_kept(self):
            original(self, by, ascending)
        else:  # the table is in order of time, whose column may be gone
            fields = [by] if isinstance(by, str) else list(by)
            original(self, [field for field in fields if field != self.time_field])

    @wrap(Dataset, "time_based_split")
    def time_based_split(original: Callable[..., Any], self: Any, ratios: Any, group_by: Any) -> Any:
        moments = None if group_by is None else times.of_rows(self)
        if moments is None:
            return original(self, ratios, group_by)
        train, valid, test = (ratio / sum(ratios) for ratio in ratios)
        parts = time_rows(self.inter_feat[group_by].numpy(), moments, (train, valid, test))
        self._drop_unused_col()
        return [self.copy(self.inter_feat[rows]) for rows in parts]

    @wrap(Dataset, "build")
    def build(original: Callable[..., Any], self: Any) -> Any:
        try:
            parts = original(self)
        finally:
            times.forget(self)
        for part in parts:
            times.forget(part)
        return parts

    return True


@patch(
    symptom=(
        "the first run on a data set that is downloaded dies, and without a network leaves a folder "
        "that spoils the next"
    ),
    cause="a barrier is called without processes; the folder is made before its data",
    where="data/dataset/dataset.py: Dataset._download",
    link="https://github.com/RUCAIBox/RecBole/issues/2050",
)
def first_download() -> bool:
    """Finish the first run on a data set that is downloaded, and survive a download that fails.

    The folder appears when it is complete, an empty one counts as none, and errors say what to put where.
    """
    from recbole.data.dataset import dataset
    from recbole.data.dataset.dataset import Dataset

    def barrier() -> None:
        """Wait for nobody: one process downloads, and compat.distributed lets others of it wait."""

    dataset.torch = seen(torch, distributed=seen(torch.distributed, barrier=barrier))

    @wrap(Dataset, "_load_data")
    def load_data(original: Callable[..., Any], self: Any, token: str, dataset_path: str) -> None:
        with contextlib.suppress(OSError):
            os.rmdir(dataset_path)  # succeeds only if the folder is empty
        original(self, token, dataset_path)

    @wrap(Dataset, "_get_download_url")
    def get_download_url(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except ValueError:
            raise ValueError(_unknown_dataset(self)) from None

    @wrap(Dataset, "_download")
    def download(original: Callable[..., Any], self: Any) -> None:
        url = self._get_download_url("url")
        path = os.path.abspath(self.dataset_path)
        # The original works in self.dataset_path: a folder beside the real one, which it becomes at the end.
        staging = os.path.join(os.path.dirname(path), f".{self.dataset_name}.download-{os.getpid()}")
        asked, self.dataset_path = self.dataset_path, staging
        try:
            original(self)
            os.rename(staging, path)
        except Exception as error:
            raise FileNotFoundError(
                f"data set {self.dataset_name!r}: {_where(self, path)} does not exist and the download "
                f"failed ({error}). Download {url} yourself, unpack it there, and see that the file has that "
                f"name; or set data_path to the folder that holds {self.dataset_name}/"
            ) from error
        finally:
            self.dataset_path = asked
            shutil.rmtree(staging, ignore_errors=True)

    return True


def _where(dataset: Any, path: str) -> str:
    return f"{os.path.join(path, dataset.dataset_name)}.inter (data_path: {os.path.dirname(path)})"


def _unknown_dataset(dataset: Any) -> str:
    """Word the error for a name that is neither under ``data_path`` nor known to RecBole."""
    import recbole
    import yaml

    name, path = dataset.dataset_name, os.path.abspath(dataset.dataset_path)
    with open(os.path.join(os.path.dirname(recbole.__file__), "properties", "dataset", "url.yaml")) as file:
        known = set(yaml.safe_load(file))
    with contextlib.suppress(OSError):
        known |= {entry.name for entry in os.scandir(os.path.dirname(path)) if entry.is_dir()}
    by_lower = {str(one).lower(): str(one) for one in known if not str(one).startswith(".")}
    close = [by_lower[one] for one in difflib.get_close_matches(name.lower(), by_lower, n=3)]
    hint = f"Did you mean {', '.join(close)}? " if close else ""
    return (
        f"data set {name!r}: {_where(dataset, path)} does not exist, and RecBole knows no download of that "
        f"name. {hint}Put the interactions there (first line: user_id:token, item_id:token, timestamp:float, "
        f"separated by tabs), or set data_path to the folder that holds {name}/"
    )
