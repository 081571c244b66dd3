"""Checkpoints that load without running code: one function writes them, one reads them.

RecBole writes its ``Config`` object and the model's class into every checkpoint. Reading such a file with
``torch.load(weights_only=False)`` runs whatever the file says; with ``weights_only=True`` torch refuses
RecBole's own. Here the names that a RecBole checkpoint may hold are allowed, and those that could do harm
when called with a stranger's arguments (``Config`` evaluates strings, a model's constructor opens files)
are read as stand-ins without behaviour, which become the real thing only after the file is closed.
"""

from __future__ import annotations

import copyreg
import importlib
import logging
import os
import pickle
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse
import torch
import yaml

from recbole_sce.errors import FAILED, RecboleSCEError
from recbole_sce.utils import processes
from recbole_sce.utils.files import StrPath, whole_file
from recbole_sce.utils.patching import patch, seen, wrap_everywhere

_CONFIG = "recbole.config.configurator.Config"
_LOADER = "yaml.loader.FullLoader"
# What torch itself allows under weights_only; torch decides, this only words the error.
_TORCHS_OWN = ("torch.", "collections.OrderedDict", "collections.Counter", "_codecs.encode", "builtins.set")

_model_classes: dict[str, type] = {}


class CheckpointError(RecboleSCEError, pickle.UnpicklingError):
    """A checkpoint that is not read: it would run code, is damaged, or is not what was asked for."""


class CheckpointWriteError(RecboleSCEError, OSError):
    """A checkpoint that could not be written; the message says where and why."""

    exit_code = FAILED


def allow_model_class(cls: type) -> None:
    """Let checkpoints name ``cls`` as their model; RecBole's own models are always allowed."""
    _model_classes[f"{cls.__module__}.{cls.__qualname__}"] = cls


def allowed_model_names() -> list[str]:
    """Return the names of the classes given to :func:`allow_model_class`."""
    return sorted(cls.__name__ for cls in _model_classes.values())


def save_checkpoint(state: dict[str, Any], path: StrPath) -> None:
    """Write ``state``, what a RecBole trainer keeps, to ``path`` in a form that :func:`safe_load` reads.

    Numbers of numpy become Python's and paths become strings. Sub-modules among ``other_parameter`` (the
    feature layers of SASRecF, DIN, ...) are left out: their weights are in ``state_dict``.

    ``path`` holds either what it held before or all of the new (:func:`recbole_sce.utils.files.whole_file`).

    Raises:
        TypeError: ``state`` holds an object that could not be read back safely.
        CheckpointWriteError: the disk is full, the folder cannot be written, or the like.
    """
    model_class = getattr(state.get("config"), "model_class", None)
    if model_class is not None:
        allow_model_class(model_class)  # this process runs it already
    state = {key: portable(value) for key, value in state.items()}
    if state.get("other_parameter"):
        state["other_parameter"] = {
            key: value
            for key, value in state["other_parameter"].items()
            if not isinstance(value, torch.nn.Module)
        }
    try:
        with whole_file(path) as stream:
            torch.save(state, stream)
            stream.flush()
            foreign = _foreign(_names_in(path, stream)[1])
            if foreign:
                raise TypeError(
                    f"the checkpoint {os.fspath(path)} was not written: it would hold {', '.join(foreign)}, "
                    "which cannot be read back safely. Settings and other_parameter may hold numbers, "
                    "strings, lists, dicts, tensors, numpy arrays and scipy matrices"
                )
    except (OSError, RuntimeError) as error:
        # torch answers the failure of a write with a RuntimeError about positions in the file.
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError):
            raise
        raise CheckpointWriteError(
            f"the checkpoint {os.fspath(path)} could not be written: {reason.strerror or reason}. Earlier "
            "checkpoints are as they were"
        ) from error


def safe_load(path: StrPath, map_location: Any = None, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint that a RecBole trainer wrote; no code that the file names is run.

    Args:
        path: the file.
        map_location: as for ``torch.load``; the CPU if None and there is no CUDA device.
        mmap: as for ``torch.load``: read tensors only as they are used.

    Raises:
        CheckpointError: the file names something that is not allowed, was written by RecBole alone, or is
            damaged. The message says which, and what to do.
    """
    with open(path, "rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if not is_zip:  # torch would read it in an older format, whatever archive is appended to it
        raise _incomplete(path)
    protocol, names = _names_in(path)
    if protocol > 2:
        raise CheckpointError(
            f"{os.fspath(path)} was written with pickle protocol {protocol} (RecBole without recbole_sce "
            "writes 4), which cannot be read without running the code it may hold. If you trust its origin, "
            "rewrite it once: import torch; from recbole_sce.compat import save_checkpoint; "
            f"save_checkpoint(torch.load({os.fspath(path)!r}, weights_only=False, map_location='cpu'), "
            f"{os.fspath(path)!r})"
        )
    if map_location is None and not torch.cuda.is_available():
        map_location = "cpu"
    stand_ins = [_stand_in(name) for name in sorted(names) if _real(name) is not None]
    try:
        with _only_allowed([*stand_ins, *_HARMLESS]):
            checkpoint: dict[str, Any] = torch.load(
                path, map_location=map_location, mmap=mmap, weights_only=True
            )
    except pickle.UnpicklingError as error:
        foreign = _foreign(names)
        reason = f"it names {', '.join(foreign)}" if foreign else str(error).splitlines()[0]
        raise CheckpointError(
            f"{os.fspath(path)} was refused, and nothing in it was run: {reason}, which no checkpoint of a "
            "known model needs. If that is a model class of your own, call recbole_sce.register_model(cls), "
            "or recbole_sce.compat.allow_model_class(cls) for a model without SCE, before loading; otherwise "
            "do not use this file"
        ) from None
    return _revived_checkpoint(checkpoint)


@patch(
    symptom="UnpicklingError: Weights only load failed; and a checkpoint of a stranger runs code",
    cause=(
        "torch.load is called without weights_only, on files of a pickle protocol that the safe "
        "reader does not know"
    ),
    where=(
        "trainer/trainer.py: Trainer._save_checkpoint, evaluate, resume_checkpoint; quick_start.py: "
        "load_data_and_model; s3rec.py"
    ),
    needed="torch 2.6; the safe reader always",
    link="https://github.com/RUCAIBox/RecBole/issues/2215",
)
def safe_checkpoints() -> bool:
    """Write checkpoints that load without running code, and load no others."""
    from recbole.model.sequential_recommender import s3rec
    from recbole.quick_start import quick_start
    from recbole.trainer import trainer
    from recbole.utils import enum_type

    for kind in (enum_type.ModelType, enum_type.InputType, enum_type.EvaluatorType):
        copyreg.pickle(kind, _enum_by_value)  # the first releases of Python 3.11 pickle an enum as a getattr
        _HARMLESS.append(kind)
    safe_torch = seen(torch, load=safe_load, save=lambda state, path, **_: save_checkpoint(state, path))
    trainer.torch = s3rec.torch = safe_torch

    @wrap_everywhere(quick_start, "load_data_and_model")
    def load_data_and_model(original: Callable[..., Any], model_file: StrPath) -> Any:
        checkpoint = safe_load(model_file)
        # The original imports torch itself and hands it what it was given: here a ticket for the checkpoint.
        ticket, torch_load = object(), torch.load
        torch.load = lambda f, *args, **kwargs: checkpoint if f is ticket else torch_load(f, *args, **kwargs)
        try:
            return original(ticket)
        finally:
            torch.load = torch_load

    return True


def _enum_by_value(member: Enum) -> tuple[type, tuple[Any]]:
    return type(member), (member.value,)


def portable(value: Any) -> Any:
    """Return ``value`` with numpy's numbers and paths, at any depth, as plain Python values."""
    from recbole.config import Config

    if isinstance(value, Config):
        config = Config.__new__(Config)
        config.__dict__.update(portable(vars(value)))
        return config
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value) is dict:
        return {portable(key): portable(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(portable(item) for item in value)
    return value


def problems_of_keeping(values: Mapping[str, Any]) -> list[str]:
    """Return which settings no checkpoint could keep, as sentences without a stop, by what they hold."""
    return [
        f"{key} must be plain data, which a checkpoint can keep, got {value!r}: write it as a number, text, "
        "list or dict"
        for key, value in values.items()
        if not _can_be_kept(value)
    ]


def _can_be_kept(value: Any) -> bool:
    try:
        content = pickle.dumps(portable(value), protocol=2)
    except (pickle.PicklingError, AttributeError, TypeError):  # a lambda, an open file
        return False
    return not _foreign(_protocol_and_names(content)[1])


def _names_in(path: StrPath, stream: BinaryIO | None = None) -> tuple[int, set[str]]:
    """Return the pickle protocol of a checkpoint and all that it names, as ``module.name``.

    Args:
        path: the file.
        stream: where it is written at present, if not yet at ``path``.
    """
    try:
        with zipfile.ZipFile(stream or path) as archive:
            member = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            return _protocol_and_names(archive.read(member))
    except (zipfile.BadZipFile, StopIteration, ValueError):
        raise _incomplete(path) from None


def _protocol_and_names(content: bytes) -> tuple[int, set[str]]:
    protocol = 0
    names: set[str] = set()
    argument: Any
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "PROTO":
            protocol = max(protocol, argument)
        elif opcode.name == "GLOBAL":
            module, name = argument.split(" ", 1)
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            names.add(f"{module}.{name}")
    return protocol, names


def _incomplete(path: StrPath) -> CheckpointError:
    return CheckpointError(
        f"{os.fspath(path)} is no complete checkpoint: its writing was interrupted, or something other than "
        "torch.save wrote it"
    )


def _foreign(names: set[str]) -> list[str]:
    harmless = {_full_name(item) for item in _HARMLESS}
    return sorted(
        name
        for name in names
        if not name.startswith(_TORCHS_OWN) and name not in harmless and _real(name) is None
    )


@contextmanager
def _only_allowed(allowed: list[Any]) -> Iterator[None]:
    """Make torch's allow-list exactly ``allowed``: a name that the user allowed is not harmless to us."""
    users = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(allowed)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(users)


class _StandIn:
    """What a name in a checkpoint is read as: it takes any arguments and any state, and does nothing."""

    full_name: str

    def __init__(self, *_: Any) -> None:
        pass

    def __new__(cls, *_: Any) -> _StandIn:
        return super().__new__(cls)


def _stand_in(full_name: str) -> type[_StandIn]:
    module, _, name = full_name.rpartition(".")
    return type(name, (_StandIn,), {"__module__": module, "full_name": full_name})


def _real(full_name: str) -> Any:
    """Return what the stand-in of ``full_name`` stands for; None if a checkpoint may not name it."""
    from recbole.config import Config
    from recbole.model.abstract_recommender import AbstractRecommender

    known = {_CONFIG: Config, _LOADER: yaml.FullLoader, **_model_classes}.get(full_name)
    if known is not None or not full_name.startswith("recbole.model."):
        return known
    module, _, name = full_name.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return cls if isinstance(cls, type) and issubclass(cls, AbstractRecommender) else None


def _revived_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Replace the stand-ins by what they stand for, and the places of a run by what there is here.

    A configuration of CUDA becomes the CPU's without CUDA, one of several processes becomes one process's.
    Saved data that the run named and that is gone is made anew.
    """
    stored = checkpoint.get("config")
    if not isinstance(stored, _StandIn) or type(stored).full_name != _CONFIG:
        return checkpoint
    config = _real(_CONFIG).__new__(_real(_CONFIG))
    config.__dict__.update(_revived(vars(stored)))
    device = config["device"]
    if isinstance(device, torch.device) and device.type == "cuda" and not torch.cuda.is_available():
        config["device"] = torch.device("cpu")
    for key in ("dataset_save_path", "dataloaders_save_path"):
        if config[key] is not None and not os.path.exists(config[key]):
            logging.getLogger().warning(f"{key}: {config[key]} is gone, and its data is made anew")
            config[key] = None
    if not processes.together():
        config["single_spec"], config["local_rank"] = True, 0  # RecBole's own keys, of several processes too
    return {**checkpoint, "config": config}


def _revived(value: Any) -> Any:
    if isinstance(value, type) and issubclass(value, _StandIn):
        return _real(value.full_name)
    if type(value) is dict:
        return {key: _revived(item) for key, item in value.items()}
    return value


def _full_name(item: Any) -> str:
    return f"{item.__module__}.{item.__qualname__}"


def _named(full_name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``call`` under the name that a checkpoint gives it."""

    def named(*args: Any) -> Any:
        return call(*args)

    named.__module__, _, named.__name__ = full_name.rpartition(".")
    named.__qualname__ = named.__name__
    return named


def _arrays() -> list[Any]:
    """Return what arrays (``other_parameter`` of EASE, ItemKNN, ...) are pickled by.

    numpy 1 and 2 spell the module of two functions differently; a file of either is read under both.
    """
    functions: dict[str, Any] = {
        "_reconstruct": np.zeros(0).__reduce__()[0],
        "scalar": np.float64(0).__reduce__()[0],
    }
    spelt = ("numpy.core.multiarray", "numpy._core.multiarray")
    return [
        *(_named(f"{module}.{name}", function) for module in spelt for name, function in functions.items()),
        np.ndarray,
        np.matrix,
        np.dtype,
        *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdO"},
        scipy.sparse.csr_matrix,
        scipy.sparse.csc_matrix,
        scipy.sparse.coo_matrix,
        scipy.sparse.lil_matrix,
    ]


_HARMLESS: list[Any] = _arrays()
