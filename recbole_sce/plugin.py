"""Where recbole_sce meets RecBole: the registries that RecBole searches, and its property files.

Every hook, with the RecBole function that it serves:

==========================================  ============================================================
``sys.modules`` entry of a model            ``recbole.utils.get_model`` imports
                                            ``recbole.model.sequential_recommender.<name in lower case>``
``recbole.data.dataset.<Model>Dataset``     ``recbole.data.utils.create_dataset``
``recbole.trainer.<Model>Trainer``          ``recbole.utils.get_trainer``
``Config._update_internal_config_dict``     ``Config._load_internal_config_dict`` reads RecBole's own
                                            folder only: ours are read after overall.yaml (model) and
                                            after sample.yaml (data set), the places of RecBole's own,
                                            and what RecBole reads for the base's exact name only is
                                            read for its variant too (after sequential.yaml)
``Config._get_model_and_dataset``           registers a plugin model that is given as a class
``Config._get_final_config_dict``           puts a plugin model's recipe between RecBole's files and the
                                            user's settings; 24.0 is 24 where a whole number is meant
``Config.__init__``                         reads the settings of a plugin model, and checks what it is to
                                            resume from, before data is read
``Config.__setitem__``                      what is set later counts as set by the user, and is checked
``create_dataset``                          a saved data set is built by the settings of now
``data_preparation``, ``Trainer.fit``       check what models of RecBole fail on later, in no key's name
``SequentialDataset._data_filtering``,      the split of ``temporal_holdout``, for RecBole's own sequential
``leave_one_out``                           models too (:mod:`recbole_sce.data.temporal`)
``data.utils.get_dataloader``               makes training batches of like length, of windows or rows
``utils.get_flops``                         copies the model: of a plugin model, all but its parameters
``case_study.full_sort_topk``,              score all items for all users at once: for plugin models,
``full_sort_scores``                        chunk by chunk (:mod:`recbole_sce.evaluator.topk`)
``abstract_dataloader.list``                a loader numbers its rows in a list, 40 bytes a row: in a range
==========================================  ============================================================

Patches of RecBole itself are in :mod:`recbole_sce.compat`.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.resources import as_file
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from recbole_sce import compat
from recbole_sce.compat import refusals

if TYPE_CHECKING:
    from importlib.abc import Traversable

    from recbole.config import Config

_Model = TypeVar("_Model", bound=type)

#: Where ``recbole.utils.get_model`` looks (its fifth place needs packages of gradient boosting).
_MODEL_KINDS = ("general", "context_aware", "sequential", "knowledge_aware")
#: For whose exact names ``Config._load_internal_config_dict`` reads further quick-start files.
_FEATURE_MODELS = ("GRU4RecF", "SASRecF", "FDSA", "S3Rec")
_KNOWLEDGE_MODELS = ("GRU4RecKG", "KSR")
_models: dict[str, type] = {}


def register() -> None:
    """Patch RecBole where it is broken and make it find everything of recbole_sce; idempotent."""
    if _models:
        return
    compat.apply_before_recbole()
    import recbole.config.configurator  # noqa: F401  (RecBole's import order: config pulls in utils and data)

    compat.apply()
    _read_property_files()
    _register_on_first_sight()
    _read_settings_early()
    _check_settings_of_built_in_models()
    _split_temporally()
    _leave_out_seen_items()
    _serve_training_batches()
    _count_operations_lightly()
    _stream_case_study()
    _number_rows_in_a_range()
    refusals.mark()  # last, so that it sees what other wrappers raise
    from recbole_sce import model

    for cls in model.MODELS:
        register_model(cls)


def registered_models() -> dict[str, type]:
    """Return the models that RecBole finds through this plugin, by name."""
    return dict(_models)


def register_model(cls: _Model) -> _Model:
    """Make RecBole find ``cls`` by its name; usable as a class decorator.

    ``cls`` mixes :class:`recbole_sce.model.SCEMixin` into a RecBole sequential recommender. It gets the
    plugin's data set and trainer, its base's property file, and may be loaded from checkpoints.

    Raises:
        TypeError: ``cls`` lacks what the plugin needs; the message names what is missing.
        ValueError: RecBole, or another class, already has a model of that name.
    """
    import recbole.data.dataset
    import recbole.trainer
    from recbole.model.abstract_recommender import SequentialRecommender

    from recbole_sce.model import SCEMixin
    from recbole_sce.training import SCETrainer

    name = cls.__name__
    if not issubclass(cls, SCEMixin):
        raise TypeError(f"{name} cannot be registered: recbole_sce.SCEMixin is not among its bases")
    if not issubclass(cls, SequentialRecommender):
        raise TypeError(
            f"{name} cannot be registered: no sequential recommender of RecBole is among its bases"
        )
    before_mixin = cls.__mro__[: cls.__mro__.index(SCEMixin)]
    if any(
        issubclass(base, SequentialRecommender) and not issubclass(base, SCEMixin) for base in before_mixin
    ):
        raise TypeError(
            f"{name} cannot be registered: SCEMixin must come before the recommender in its bases"
        )
    cls.check_class()
    taken = _models.get(name)
    if taken is None and any(
        find_spec(f"recbole.model.{kind}_recommender.{name.lower()}") is not None for kind in _MODEL_KINDS
    ):
        raise ValueError(
            f"{name} cannot be registered: RecBole has a model of that name. Give the class another name"
        )
    if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"{name} cannot be registered: {taken.__module__}.{taken.__qualname__} has that name already. "
            "Give the class another name"
        )

    module_name = f"recbole.model.sequential_recommender.{name.lower()}"
    module = ModuleType(module_name, doc=f"Stands for {cls.__module__}.{name}.")
    module.__spec__ = ModuleSpec(module_name, loader=None)
    setattr(module, name, cls)
    sys.modules[module_name] = module
    setattr(recbole.data.dataset, f"{name}Dataset", _dataset_class(cls))
    setattr(recbole.trainer, f"{name}Trainer", SCETrainer)
    compat.allow_model_class(cls)
    _models[name] = cls
    return cls


def base_of(cls: type) -> type:
    """Return the RecBole recommender that a plugin model extends."""
    return next(base for base in cls.__mro__ if base.__module__.startswith("recbole.model."))


def own_property_files(cls: type) -> list[Traversable]:
    """Return the property files of recbole_sce for ``cls``, those read later last; none for RecBole's models.

    A model that extends one of recbole_sce has that one's file, too.
    """
    from recbole_sce.data.properties import model_properties
    from recbole_sce.model import SCEMixin

    ours = [
        one.__name__ for one in reversed(cls.__mro__) if issubclass(one, SCEMixin) and one is not SCEMixin
    ]
    return model_properties(ours) if ours else []


def _dataset_class(cls: type) -> type:
    """Return the data set that ``cls`` is trained on: with a knowledge graph if its base's has one."""
    import recbole.data.dataset

    from recbole_sce.data.dataset import IndexedSequenceDataset
    from recbole_sce.data.knowledge import IndexedKGSeqDataset

    of_base = getattr(recbole.data.dataset, f"{base_of(cls).__name__}Dataset", recbole.data.dataset.Dataset)
    if issubclass(of_base, recbole.data.dataset.KnowledgeBasedDataset):
        return IndexedKGSeqDataset
    return IndexedSequenceDataset


def _read_property_files() -> None:
    """Wrap ``Config._update_internal_config_dict``, which reads one of RecBole's property files."""
    from recbole.config import Config

    original = Config._update_internal_config_dict

    @functools.wraps(original)
    def update(self: Config, file: str) -> Any:
        config_dict = original(self, file)
        for path in _files_after(
            os.path.basename(file), self.model_class, self.dataset, os.path.dirname(file)
        ):
            with as_file(path) as ours:
                original(self, str(ours))
        return config_dict

    Config._update_internal_config_dict = update


def _files_after(file: str, model_class: type, dataset: str, folder: str) -> list[Any]:
    """Return the property files to read after RecBole's ``file`` (its name) in ``folder``."""
    from recbole_sce.data.properties import dataset_properties
    from recbole_sce.model import SCEMixin

    if file == "overall.yaml" and issubclass(model_class, SCEMixin):
        of_base = Path(folder) / "model" / f"{base_of(model_class).__name__}.yaml"
        return [path for path in (of_base, *own_property_files(model_class)) if path.is_file()]
    if file == "sequential.yaml" and issubclass(model_class, SCEMixin):
        base = base_of(model_class).__name__
        if base in _KNOWLEDGE_MODELS:
            return [Path(folder) / "sequential_embedding_model.yaml"]
        if base in _FEATURE_MODELS and dataset == "ml-100k":
            return [Path(folder) / "special_sequential_on_ml-100k.yaml"]
    if file == "sample.yaml":
        path = dataset_properties(dataset)
        return [] if path is None else [path]
    return []


def _register_on_first_sight() -> None:
    """Wrap ``Config._get_model_and_dataset``: a plugin model that is given as a class is registered there.

    RecBole finds data set, trainer and model by the class's name from then on.
    """
    from recbole.config import Config

    from recbole_sce.model import SCEMixin

    @compat.wrap(Config, "_get_model_and_dataset")
    def get_model_and_dataset(
        original: Callable[..., Any], self: Config, model: Any, dataset: Any
    ) -> tuple[str, type, str]:
        name, cls, dataset_name = original(self, model, dataset)
        if issubclass(cls, SCEMixin) and _models.get(name) is not cls:
            register_model(cls)
        return name, cls, dataset_name


def _read_settings_early() -> None:
    """Wrap ``Config``: a plugin model gets its recipe and its settings are checked before data is read."""
    from recbole.config import Config
    from recbole.data import utils

    from recbole_sce.data.columns import check_columns
    from recbole_sce.data.temporal import check_temporal_holdout
    from recbole_sce.model import SCEMixin
    from recbole_sce.safe_io.checkpoints import problems_of_keeping
    from recbole_sce.settings import carried, recbole_keys, recipes, refuse
    from recbole_sce.training import resume

    @compat.wrap(Config, "_get_final_config_dict")
    def get_final_config_dict(original: Callable[..., Any], self: Config) -> dict[str, Any]:
        values = recbole_keys.with_python_numbers(original(self))
        if issubclass(self.model_class, SCEMixin):
            values = recbole_keys.with_switches(values, self.internal_config_dict)
            values = recipes.put_recipe(self, values, self.model_class.trains())
        return recbole_keys.with_whole_numbers(values, self.internal_config_dict)

    @compat.wrap(Config, "__init__")
    def init(original: Callable[..., Any], self: Config, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        for key, ours in recipes.misspelt_keys(self).items() if self["local_rank"] == 0 else ():
            logging.getLogger().warning(f"{key} must be a key that somebody reads: did you mean {ours}?")
        check_temporal_holdout(self)
        if issubclass(self.model_class, SCEMixin):
            refuse(problems_of_keeping(self.external_config_dict))
            carried.settings_of(self)
            check_columns(self, of_plugin=True)
            resume.check(self)

    @compat.wrap_everywhere(utils, "create_dataset")
    def create_dataset(original: Callable[..., Any], config: Config) -> Any:
        dataset = original(config)
        if recipes.is_open(config):  # the data set is a saved one, whose own settings were others
            dataset.take_settings(config)
        return dataset

    @compat.wrap(Config, "__setitem__")
    def set_item(original: Callable[..., Any], self: Config, key: str, value: Any) -> None:
        original(self, key, value)
        if carried.concerns_settings(key) and issubclass(self.model_class, SCEMixin):
            self.external_config_dict[key] = value  # as if it had been set before: it wins over the recipe
            carried.forget_settings(self)


def _check_settings_of_built_in_models() -> None:
    """Wrap ``data_preparation`` and ``Trainer.fit``, where models of RecBole fail on settings unnamed."""
    from recbole.data import utils
    from recbole.trainer import Trainer

    from recbole_sce.model.checks import check_data_settings, check_training_settings

    @compat.wrap_everywhere(utils, "data_preparation")
    def data_preparation(original: Callable[..., Any], config: Config, dataset: Any) -> Any:
        check_data_settings(config)
        return original(config, dataset)

    @compat.wrap(Trainer, "fit")
    def fit(
        original: Callable[..., Any],
        self: Any,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if valid_data:
            check_training_settings(self.config, saved)
        return original(self, train_data, valid_data, verbose, saved, *args, **kwargs)


def _split_temporally() -> None:
    """Let sequential data sets, RecBole's own too, hold out users by ``temporal_holdout``."""
    from recbole.data.dataset import SequentialDataset

    from recbole_sce.data import temporal

    def filter_and_hold_out(self: Any) -> None:
        super(SequentialDataset, self)._data_filtering()
        temporal.hold_out(self)

    @compat.wrap(SequentialDataset, "leave_one_out")
    def leave_one_out(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.config[temporal.KEY] is None:
            return original(self, *args, **kwargs)
        self._drop_unused_col()
        return [self.copy(self.inter_feat[rows.tolist()]) for rows in temporal.holdout_parts(self)]

    SequentialDataset._data_filtering = filter_and_hold_out


def _leave_out_seen_items() -> None:
    from recbole_sce.evaluator import seen

    seen.serve_exclude_seen()


def _serve_training_batches() -> None:
    """Let ``get_dataloader`` choose the plugin's loader for training of its models and of windows."""
    from recbole.data import utils
    from recbole.data.dataloader import TrainDataLoader

    from recbole_sce.data.loader import SequenceDataLoader
    from recbole_sce.model import SCEMixin

    @compat.wrap_everywhere(utils, "get_dataloader")
    def get_dataloader(original: Callable[..., Any], config: Config, phase: str) -> type:
        loader: type = original(config, phase)
        ours = config["train_positions"] == "all" or issubclass(config.model_class, SCEMixin)
        return SequenceDataLoader if phase == "train" and ours and loader is TrainDataLoader else loader


def _count_operations_lightly() -> None:
    """Let ``get_flops`` copy all of a plugin model but its parameters, which it does not change."""
    from recbole.utils import utils

    from recbole_sce.model import SCEMixin
    from recbole_sce.training.flops import light_copy

    @compat.wrap_everywhere(utils, "get_flops")
    def get_flops(original: Callable[..., Any], model: Any, *args: Any, **kwargs: Any) -> Any:
        return original(light_copy(model) if isinstance(model, SCEMixin) else model, *args, **kwargs)


def _stream_case_study() -> None:
    """Let ``full_sort_topk`` and ``full_sort_scores`` rank plugin models chunk by chunk."""
    from recbole.utils import case_study

    from recbole_sce.evaluator import topk
    from recbole_sce.evaluator.encoding import streams
    from recbole_sce.model import SCEMixin

    def stream(name: str) -> None:
        @compat.wrap_everywhere(case_study, name)
        def chosen(
            original: Callable[..., Any], uid_series: Any, model: Any, *args: Any, **kwargs: Any
        ) -> Any:
            streamed = isinstance(model, SCEMixin) and streams(model)
            return (getattr(topk, name) if streamed else original)(uid_series, model, *args, **kwargs)

    for name in ("full_sort_topk", "full_sort_scores"):
        stream(name)


def _number_rows_in_a_range() -> None:
    """Let ``AbstractDataLoader.__init__`` give torch ``range(n)`` in place of ``list(range(n))``."""
    from recbole.data.dataloader import abstract_dataloader

    def list_of(values: Any) -> Any:
        return values if isinstance(values, range) else list(values)

    abstract_dataloader.list = list_of
