"""Patches of what RecBole does with saved data sets and saved loaders: when they stand for new ones."""

from __future__ import annotations

import functools
import logging
import os
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import torch

from recbole_sce.data import ids, sources
from recbole_sce.safe_io.saved_data import SavedDataError, dump_saved, load_saved
from recbole_sce.utils.patching import patch, seen, wrap, wrap_everywhere

#: Keys that decide what a data set holds and that RecBole's ``dataset_arguments`` leaves out.
_OF_DATASETS = (
    "train_positions",
    "temporal_holdout",
    "transform",
    "encoding",
    "numerical_features",
    "discretization",
    "kg_reverse_r",
    "entity_kg_num_interval",
    "relation_kg_num_interval",
    "token_num_threshold",
    "convert_token_to_onehot",
)
#: Keys that decide how loaders were made: RecBole changes none of this in loaders that it has read.
_OF_LOADERS = (
    "eval_args",
    "train_batch_size",
    "train_batch_positions",
    "eval_batch_size",
    "shuffle",
    "worker",
    "MODEL_INPUT_TYPE",
    "train_neg_sample_args",
    "valid_neg_sample_args",
    "test_neg_sample_args",
)


@patch(
    symptom=(
        "a saved data set is used although its files have changed; a damaged or foreign one ends a run that "
        "names none, and runs code"
    ),
    cause="any file of the right name is unpickled, and compared by some settings only and not by files",
    where="data/utils.py: create_dataset; data/dataset/dataset.py: Dataset._load_data, save",
)
def saved_data_sets() -> bool:
    """Use a saved data set only where making it anew would give the same.

    ``create_dataset`` unpickles whatever file has the right name: one that is damaged, or of another model,
    ends a run that names none. It compares some settings only, and the data set keeps those that it was saved
    with, its split among them. It does not look at the files that the data set was made of.

    Here a file that nobody named is used, or left out with a line in the log, and the data set is made anew.
    One that ``dataset_save_path`` names is an error where it is damaged or of other settings. Where only the
    data has changed since, it is left out too, with a warning: the settings still ask for this data set.
    What counts as changed data:

    * The digest of the files (:mod:`recbole_sce.data.sources`), which is saved with the data set, is another.
      A data set that RecBole alone saved has none, and must be younger than its files.
    * The run is for a checkpoint, and the data set numbers tokens otherwise (:mod:`recbole_sce.data.ids`).

    A data set whose files are gone is used, with a warning. Saved data is read as data
    (:mod:`recbole_sce.safe_io.saved_data`); RecBole alone reads what is written. Applies always.
    """
    from recbole.data import utils
    from recbole.data.dataset import Dataset, dataset

    utils.pickle = dataset.pickle = seen(pickle, load=load_saved, dump=dump_saved)
    # The original reads no file by itself: it only makes data sets.
    utils.os = seen(os, path=seen(os.path, exists=lambda path: False))

    @wrap_everywhere(utils, "create_dataset")
    def create_dataset(original: Callable[..., Any], config: Any) -> Any:
        name = f"{config['dataset']}-{_dataset_class(config).__name__}.pth"
        why_not = functools.partial(_why_not_the_data_set, config)
        made = _saved(config, "dataset_save_path", name, "filtered dataset", why_not)
        if made is None:
            made = original(config)
            ids.check_adopted(made)
            return made
        made.config = config
        return made

    @wrap(Dataset, "_load_data")
    def load_data(original: Callable[..., Any], self: Any, *args: Any) -> None:
        saved = self.config["save_dataset"] or self.config["save_dataloaders"]
        before = sources.digest(self.config) if saved else None
        original(self, *args)
        if saved:  # files that were downloaded just now are read after
            vars(self)[sources.ATTRIBUTE] = before or sources.digest(self.config)

    @wrap(Dataset, "save")
    def save(original: Callable[..., Any], self: Any) -> None:
        vars(self).setdefault(sources.ATTRIBUTE, sources.digest(self.config))
        original(self)

    return True


@patch(
    symptom="a second run with saved loaders fails (BERT4Rec), or ignores another batch size, or other files",
    cause="loaders are compared by some settings only and not by files, and their transform names no fields",
    where="data/utils.py: load_split_dataloaders, save_split_dataloaders",
)
def saved_loaders() -> bool:
    """Use saved loaders only where making them anew would give the same.

    ``load_split_dataloaders`` does as ``create_dataset`` (:func:`saved_data_sets`). The loaders keep their
    sizes of batches, and their transform does not tell the model the names of its fields (BERT4Rec).
    ``save_split_dataloaders`` takes the generators away from the loaders that go on to train. Those of
    ``mode: labeled`` ask a sampler that they do not have. Applies always.
    """
    from recbole.data import utils
    from recbole.data.dataloader import NegSampleEvalDataLoader
    from recbole.data.transform import construct_transform

    @wrap_everywhere(utils, "load_split_dataloaders")
    def load_split_dataloaders(original: Callable[..., Any], config: Any) -> Any:
        name = f"{config['dataset']}-for-{config['model']}-dataloader.pth"
        why_not = functools.partial(_why_not_the_loaders, config)
        content = _saved(config, "dataloaders_save_path", name, "split dataloaders", why_not)
        if content is None:
            return None
        for loader, state in content:
            generator = torch.Generator()
            generator.set_state(state)
            loader.generator = loader.sampler.generator = generator
            loader.update_config(config)
            loader._dataset.config = config
            loader.transform = construct_transform(config)  # which tells config the names of its fields
        return tuple(loader for loader, _ in content)

    @wrap_everywhere(utils, "save_split_dataloaders")
    def save_split_dataloaders(original: Callable[..., Any], config: Any, dataloaders: Any) -> None:
        generators = [getattr(loader, "generator", None) for loader in dataloaders]
        if None in generators:
            raise ValueError(
                f"save_dataloaders must be False with {config['model']}, got True: RecBole cannot save "
                "loaders of a knowledge graph. save_dataset: True saves what takes longest"
            )
        if any(sources.ATTRIBUTE not in vars(loader._dataset) for loader in dataloaders):
            digest = sources.digest(config)
            for loader in dataloaders:
                vars(loader._dataset).setdefault(sources.ATTRIBUTE, digest)
        try:
            original(config, dataloaders)
        finally:
            for loader, generator in zip(dataloaders, generators):
                loader.generator = loader.sampler.generator = generator

    @wrap(NegSampleEvalDataLoader, "update_config")
    def update_config(original: Callable[..., Any], self: Any, config: Any) -> None:
        if self._sampler is None:
            super(NegSampleEvalDataLoader, self).update_config(config)
        else:
            original(self, config)

    return True


def _why_not_the_data_set(config: Any, content: Any) -> str:
    """Return why what a file holds is not the data set of ``config``; '' if it is."""
    from recbole.data.dataset import Dataset
    from recbole.utils.argument_list import dataset_arguments

    kind = _dataset_class(config)
    if not isinstance(content, Dataset) or not _has_settings(content):
        return "it holds no data set of RecBole"
    if type(content) is not kind:
        return f"its class is {type(content).__name__}, and {config['model']} needs {kind.__name__}"
    earlier: Any = vars(content)["config"]
    changed = _changed([*dataset_arguments, *_OF_DATASETS], config, earlier)
    if not changed and config["eval_args"]["order"] != earlier["eval_args"]["order"]:
        changed = ["eval_args: order"]
    return _made_with_others(changed)


def _why_not_the_loaders(config: Any, content: Any) -> str:
    """Return why what a file holds are not the loaders of ``config``; '' if they are."""
    from recbole.data import utils
    from recbole.utils.argument_list import dataset_arguments

    if not _are_loaders(content):
        return "it holds no data loaders of RecBole"
    loaders = [loader for loader, _ in content]
    kinds = [utils.get_dataloader(config, phase) for phase in ("train", "valid", "test")]
    if [*map(type, loaders)] != kinds or type(loaders[0]._dataset) is not _dataset_class(config):
        return f"its loaders are of another kind than those of {config['model']}"
    keys = [*dataset_arguments, *_OF_DATASETS, *_OF_LOADERS]
    return _made_with_others(_changed(keys, config, loaders[0].config))


def _saved(config: Any, key: str, default: str, what: str, why_not: Callable[[Any], str]) -> Any:
    """Return what the file that ``key`` names, or else the file ``default`` of ``checkpoint_dir``, holds.

    Args:
        config: RecBole's ``Config``.
        key: names the file, or is null.
        default: file in ``checkpoint_dir`` to use where ``key`` is null.
        what: the content in words, for the log.
        why_not: returns why the content is not what this run makes, of whatever data; '' if it is.

    Returns:
        The content; None if there is none that can be used.

    Raises:
        SavedDataError: ``key`` names a file that is damaged, or whose content is not what this run makes.
    """
    named = config[key]
    if named is None:
        path = os.path.join(config["checkpoint_dir"], default)
        if not os.path.exists(path):
            return None
    elif isinstance(named, (str, os.PathLike)) and os.path.isfile(named):
        path = os.fspath(named)
    else:
        raise SavedDataError(f"{key} must be the path of an existing file or null, got {named!r}")
    try:
        with open(path, "rb") as file:
            content = load_saved(file)
    except (SavedDataError, OSError) as error:
        needed, reason, level = "can be read", str(error), logging.WARNING
    else:
        needed, reason, level = "fits this run", why_not(content), logging.INFO
    if reason and named is not None:
        raise SavedDataError(f"{key} must be a file that {needed}, got {path!r}: {reason}")
    if not reason:
        dataset = content[0][0]._dataset if isinstance(content, list) else content
        reason, level = _why_outdated(config, dataset, path), logging.WARNING
    logger = logging.getLogger()
    if not reason:
        logger.info(f"Load {what} from: [{path}]")
        return content
    of_key, remedy = "", ""
    if named is not None:
        saving = {"dataset_save_path": "save_dataset", "dataloaders_save_path": "save_dataloaders"}[key]
        of_key, remedy = f"{key}: ", f". Set {key} to null and, once, {saving} to True to have it kept anew"
    logger.log(level, f"{of_key}{path} is left out, and its content is made anew: {reason}{remedy}")
    return None


def _why_outdated(config: Any, dataset: Any, path: str) -> str:
    """Return how the data has changed since ``dataset`` was saved at ``path``; '' if it has not.

    Where a file that the data set was made of is gone, that cannot be known, and is logged.
    """
    of_checkpoint = ids.wanted()
    if of_checkpoint is not None and of_checkpoint.differing(ids.TokenIds.of(dataset)):
        return "it has other ids of tokens than the checkpoint"
    saved: str | None = vars(dataset).get(sources.ATTRIBUTE)
    if saved is None and type(dataset).__module__.startswith("recbole_sce."):
        return "it was saved by an earlier release"
    gone = [file for file in sources.files(config) if not os.path.exists(file)]
    if gone:
        logging.getLogger().warning(f"{path} is used unchecked: {gone[0]} is gone")
        return ""
    if saved is None:
        older = os.stat(path).st_mtime < sources.newest_change(config)
        return "it is older than the files that it was made of" if older else ""
    return "" if sources.digest(config) == saved else "it was made of other files than there are now"


def _dataset_class(config: Any) -> type:
    """Return the class of data set that RecBole makes for ``config``."""
    import recbole.data.dataset
    from recbole.utils import ModelType

    kinds = {
        ModelType.SEQUENTIAL: recbole.data.dataset.SequentialDataset,
        ModelType.KNOWLEDGE: recbole.data.dataset.KnowledgeBasedDataset,
    }
    of_kind = kinds.get(config["MODEL_TYPE"], recbole.data.dataset.Dataset)
    named: type = getattr(recbole.data.dataset, f"{config['model']}Dataset", of_kind)
    return named


def _changed(keys: Iterable[str], config: Any, earlier: Any) -> list[str]:
    """Return the keys whose values differ, but those that the data has still to decide (``recipe: auto``)."""
    from recbole_sce.settings import recipes

    compared = dict.fromkeys([*keys, "seed", "repeatable"])
    return [key for key in compared.keys() - recipes.undecided_keys(config) if config[key] != earlier[key]]


def _made_with_others(changed: list[str]) -> str:
    return f"it was made with other values of {', '.join(changed)}" if changed else ""


def _are_loaders(content: Any) -> bool:
    """Return whether ``content`` is what ``save_split_dataloaders`` writes: loaders, states of generators."""
    from recbole.data.dataloader import AbstractDataLoader

    return (
        isinstance(content, list)
        and len(content) == 3
        and all(
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], AbstractDataLoader)
            and _has_settings(pair[0])
            and isinstance(pair[1], torch.Tensor)
            for pair in content
        )
    )


def _has_settings(content: Any) -> bool:
    from recbole.config import Config

    return isinstance(vars(content).get("config"), Config)
