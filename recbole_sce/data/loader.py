"""The loader of training data that serves windows instead of rows."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np
from recbole.data.dataloader import TrainDataLoader
from recbole.data.dataloader.abstract_dataloader import NegSampleDataLoader


class WindowDataLoader(TrainDataLoader):  # type: ignore[misc]
    """RecBole's ``TrainDataLoader`` over the windows of a data set, for ``train_positions: all``.

    Its ``dataset`` counts and gives rows, as everywhere. A data set without windows is served by rows.
    """

    def __init__(self, config: Any, dataset: Any, sampler: Any, shuffle: bool = False) -> None:
        self.logger = getLogger()
        self._set_neg_sample_args(
            config, dataset, config["MODEL_INPUT_TYPE"], config["train_neg_sample_args"]
        )
        windows = getattr(dataset, "windows", None)
        self.sample_size = len(dataset if windows is None else windows)
        NegSampleDataLoader.__init__(self, config, dataset, sampler, shuffle=shuffle)

    def collate_fn(self, index: Any) -> Any:
        """Return the batch of some windows (RecBole's contract)."""
        dataset, index = self._dataset, np.array(index)
        batch = dataset[index] if getattr(dataset, "windows", None) is None else dataset.window_batch(index)
        return self._neg_sampling(self.transform(dataset, batch))
