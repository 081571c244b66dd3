"""Repairs of RecBole's data sets: missing values, the order of interactions, downloads."""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import warnings
from collections.abc import Iterator
from typing import Any, Callable
from unittest import mock

import pandas as pd

from recbole_sce.utils.patching import seen, wrap


def missing_values() -> bool:
    """Fill missing values under pandas 3, which ignores ``frame[field].fillna(..., inplace=True)``.

    ``Dataset._fill_nan`` leaves NaN in float fields and turns the padding row of token fields into a
    huge negative number; ``Dataset._load_feat`` fails on empty sequences. Applies where pandas copies on
    write (pandas 3, or pandas 2 with that option on).
    """
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


def lengths_of_sequences() -> bool:
    """Take the lengths of sequences under pandas 3, whose ``Series.agg(len)`` is one number.

    ``Dataset._remap``, ``_normalize`` and others cut token sequences by ``feat[field].agg(len)``, and
    ``SequentialDataset._benchmark_presets`` counts histories so: RecBole means one length an element. It gets
    them while it prepares its data; elsewhere ``Series.agg`` is pandas'. Applies where pandas aggregates.
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


def exact_time_order() -> bool:
    """Sort interactions by exact timestamps, not by ones rounded to 64 or 128 seconds.

    ``Dataset._dataframe_to_interaction`` turns them to float32 before ``SequentialDataset.data_augmentation``
    and ``Dataset.build`` sort. https://github.com/RUCAIBox/RecBole/issues/2204. Sorted before, in full
    precision and ties in the order of the file, they keep that order, because all later sorts are stable.
    Applies to time-ordered data sets (``eval_args.order: TO``); where nothing was rounded, nothing changes.
    """
    from recbole.data.dataset import Dataset

    @wrap(Dataset, "_change_feat_format")
    def change_feat_format(original: Callable[..., Any], self: Any) -> None:
        # Parts of a benchmark are cut by position, and must not be mixed.
        if self.config["eval_args"]["order"] == "TO" and self.benchmark_filename_list is None:
            frame, time = self.inter_feat, self.time_field
            if time in frame and pd.api.types.is_numeric_dtype(frame[time]):
                self.inter_feat = frame.sort_values(time, kind="stable", ignore_index=True)
        original(self)

    return True


def first_download() -> bool:
    """Finish the first run on a data set that is downloaded, and survive a download that fails.

    ``Dataset._download`` ends in ``torch.distributed.barrier()``, in a single process too; makes the folder
    before it has the data; and reports a missing network as a bare ``URLError``.
    https://github.com/RUCAIBox/RecBole/issues/2050. Now the folder appears only when it is complete, an
    empty one counts as none, and errors say what to put where. Applies always.
    """
    import torch
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
