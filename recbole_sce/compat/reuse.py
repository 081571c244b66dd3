"""Patches of how RecBole reuses saved data sets and data loaders."""

from __future__ import annotations

import logging
import os
from typing import Any, Callable, Optional
from weakref import WeakSet

from recbole_sce.utils.patching import patch, wrap, wrap_everywhere


@patch(
    symptom="training goes on with saved data whose files have changed",
    cause="saved data is compared by settings, not by files",
    where="data/utils.py: create_dataset, load_split_dataloaders",
)
def fresh_saved_data() -> bool:
    """Make data anew whose files have changed since it was saved.

    ``data.utils.create_dataset`` and ``load_split_dataloaders`` compare settings and not files: halve the
    ``.inter`` file, and the old data trains and tests on, with no key set. ``Dataset._load_data`` notes a
    digest of the files, which is saved with the data and compared when it is reused. What was saved without
    one counts by the times of files. Data whose files are gone is used, with a warning. Applies always.
    """
    from recbole.data import utils
    from recbole.data.dataset import Dataset

    from recbole_sce.data import ids, sources

    read_here: WeakSet[Any] = WeakSet()  # data sets that are no saved ones

    @wrap(Dataset, "_load_data")
    def load_data(original: Callable[..., Any], self: Any, *args: Any) -> None:
        read_here.add(self)
        saved = self.config["save_dataset"] or self.config["save_dataloaders"]
        before = sources.digest(self.config) if saved else None
        original(self, *args)
        if saved:  # files that were downloaded just now are read after
            vars(self)[sources.ATTRIBUTE] = before or sources.digest(self.config)

    @wrap(Dataset, "save")
    def save(original: Callable[..., Any], self: Any) -> None:
        vars(self).setdefault(sources.ATTRIBUTE, sources.digest(self.config))
        original(self)

    @wrap_everywhere(utils, "save_split_dataloaders")
    def save_split_dataloaders(original: Callable[..., Any], config: Any, dataloaders: Any) -> None:
        if any(sources.ATTRIBUTE not in vars(loader._dataset) for loader in dataloaders):
            digest = sources.digest(config)
            for loader in dataloaders:
                vars(loader._dataset).setdefault(sources.ATTRIBUTE, digest)
        original(config, dataloaders)

    @wrap_everywhere(utils, "create_dataset")
    def create_dataset(original: Callable[..., Any], config: Any) -> Any:
        dataset = original(config)
        if dataset not in read_here:
            file = f"{config['dataset']}-{type(dataset).__name__}.pth"
            path = config["dataset_save_path"] or os.path.join(config["checkpoint_dir"], file)
            if _is_stale(dataset, config, path):
                dataset = type(dataset)(config)
                if config["save_dataset"]:
                    dataset.save()
        ids.check_adopted(dataset)
        return dataset

    @wrap_everywhere(utils, "load_split_dataloaders")
    def load_split_dataloaders(original: Callable[..., Any], config: Any) -> Any:
        loaders = original(config)
        file = f"{config['dataset']}-for-{config['model']}-dataloader.pth"
        path = config["dataloaders_save_path"] or os.path.join(config["checkpoint_dir"], file)
        if loaders is not None and _is_stale(loaders[0]._dataset, config, path):
            return None
        return loaders

    return True


def _is_stale(dataset: Any, config: Any, path: str) -> bool:
    """Say whether data saved at ``path`` is not that of the files of ``config``; if so, log it."""
    from recbole_sce.data import ids, sources

    saved: Optional[str] = vars(dataset).get(sources.ATTRIBUTE)
    logger = logging.getLogger()
    wanted = ids.wanted()
    if wanted is not None and wanted.differing(ids.TokenIds.of(dataset)):
        reason = "has other ids of tokens than the checkpoint"
    elif saved is None and type(dataset).__module__.startswith("recbole_sce."):
        reason = "was saved by an earlier release"
    elif saved is None:
        if sources.newest_change(config) <= os.stat(path).st_mtime:
            return False
        reason = "is older than the files that it was made of"
    else:
        now = sources.digest(config)
        if now is None:
            logger.warning(
                f"{path} is used unchecked: {sources.files(config)[0]}, or another file of it, is gone"
            )
            return False
        if now == saved:
            return False
        reason = "was made of other files than there are now"
    logger.warning(f"{path} {reason}: the data is made anew from {config['data_path']}")
    return True
