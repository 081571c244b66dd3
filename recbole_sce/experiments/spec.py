"""What one training is: model, data set, settings, seed; checked before any work starts."""

from __future__ import annotations

import copy
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from recbole_sce.errors import RecboleSCEError
from recbole_sce.utils.arguments import recbole_sees

#: Keys of the package's files that decide about no figure.
WITHOUT_EFFECT = ("catalog_chunk", "eval_memory_mb", "process_timeout", "resume")


class ExperimentError(RecboleSCEError, ValueError):
    """What was asked for cannot be compared or tuned; the message says why, and what can be done."""


@dataclass(frozen=True)
class Candidate:
    """One row of a comparison: a model, how it is trained, and what it is called.

    Args:
        label: its name in tables; unique in a comparison.
        model: a model's name, RecBole's or one that is registered with ``recbole_sce.register_model``.
        loss: its ``loss_type``; None: the model's own.
        settings: configuration keys of this candidate alone.
    """

    label: str
    model: str
    loss: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Candidate:
        """Read ``[label=]Model[:loss]``, as in ``SASRec``, ``SASRecSCE:CE`` and ``short=SASRecSCE``.

        Raises:
            ExperimentError: ``text`` is not of that form.
        """
        match = re.fullmatch(r"(?:([^=:]+)=)?([A-Za-z_]\w*)(?::(SCE|CE-|CE|gBCE|BCE|BPR))?", text.strip())
        if match is None:
            raise ExperimentError(
                f"{text!r} is not of the form [label=]Model[:loss], with loss one of SCE, CE, CE-, gBCE, BCE "
                "(models of recbole_sce), CE, BPR (RecBole's own)"
            )
        label, model, loss = match.groups()
        return cls(label or (f"{model}:{loss}" if loss else model), model, loss)


@dataclass(frozen=True)
class RunSpec:
    """One training and its test, as a process of its own gets it.

    Args:
        model: the model's name.
        dataset: the data set's name.
        settings: configuration keys; they win over ``config_files``. The seed is among them.
        config_files: absolute paths of YAML files.
        modules: modules to import first, because they register models.
        paths: where to find these modules, besides the interpreter's own places.
    """

    model: str
    dataset: str
    settings: Mapping[str, Any]
    config_files: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the specification as what ``json`` reads back."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunSpec:
        """Return the specification that :meth:`to_json` wrote."""
        lists = {key: tuple(content[key]) for key in ("config_files", "modules", "paths")}
        return cls(**{**content, **lists})

    def identity(self) -> dict[str, Any]:
        """Return what decides about the result: as :meth:`to_json`, with what the files say."""
        content = self.to_json()
        content["config_files"] = read_files(self.config_files)
        del content["paths"]
        return content


def make_spec(
    model: str, dataset: str, settings: Mapping[str, Any], config_files: Sequence[str] = ()
) -> tuple[RunSpec, Any]:
    """Return the specification of a run, and RecBole's ``Config`` of it; no data is read.

    ``train_neg_sample_args`` is set to null for sequential models trained with cross-entropy, which RecBole
    asks for, unless ``settings`` has it.

    Raises:
        ExperimentError: a model's name is unknown, a setting is impossible or not plain data (numbers,
            strings, lists, dicts), or the model's class cannot be imported by another process.
    """
    from recbole.utils import ModelType, get_model

    from recbole_sce.settings import RECIPES
    from recbole_sce.settings.recipes import AUTO

    files = tuple(os.path.abspath(file) for file in config_files)
    try:
        own: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    except TypeError as error:
        raise ExperimentError(f"settings must be plain data, and {error}") from error
    with recbole_sees({}):
        try:
            cls = get_model(model)
        except ValueError as error:
            raise ExperimentError(str(error)) from error
        given = {**read_files(files), **own}
        if cls.type == ModelType.SEQUENTIAL and "train_neg_sample_args" not in given:
            config = _config(model, dataset, {**own, "train_neg_sample_args": None}, files)
            if config["loss_type"] == "CE" or getattr(cls, "check_config", None) is not None:
                own["train_neg_sample_args"] = None
            else:
                config = _config(model, dataset, own, files)
        else:
            config = _config(model, dataset, own, files)
    # data_path may be relative to this process' folder, and a worker has a folder of its own
    own["data_path"] = os.path.dirname(os.path.abspath(config["data_path"]))
    recipe = config["recipe"] if hasattr(cls, "check_config") else None
    if recipe is not None and recipe not in (AUTO, *RECIPES):
        own["recipe"] = os.path.abspath(recipe)
    return RunSpec(model, dataset, own, files, _modules_of(cls), tuple(sys.path)), config


def package_settings(config: Any) -> dict[str, Any]:
    """Return the values in RecBole's ``Config`` of the keys that recbole_sce's own files set for the model.

    Those of its recipe are among them, with ``auto`` those of all recipes that it may take.

    Another version of recbole_sce may have other values in these files, so that a run is repeated only if
    they are said. RecBole's own models have none; :data:`WITHOUT_EFFECT` are left out.
    """
    from recbole_sce.plugin import own_property_files
    from recbole_sce.settings.recipes import recipe_keys

    keys = [
        key
        for file in own_property_files(config.model_class)
        for key in yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    ]
    keys += recipe_keys(config) if keys else []
    return {key: config[key] for key in keys if key not in WITHOUT_EFFECT}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between the settings of two runs, as text; null and not set are two things."""
    return [
        f"{key} was {_said(before, key)} and is {_said(now, key)}"
        for key in sorted({**before, **now})
        if (key in before, before.get(key)) != (key in now, now.get(key))
    ]


def _said(settings: Mapping[str, Any], key: str) -> str:
    return repr(settings[key]) if key in settings else "not set"


def read_files(files: Sequence[str]) -> dict[str, Any]:
    """Return the settings in YAML ``files``; later ones win.

    Raises:
        ExperimentError: a file cannot be read, or is not YAML of keys and values.
    """
    settings: dict[str, Any] = {}
    for file in files:
        try:
            with open(file, encoding="utf-8") as stream:
                content = yaml.safe_load(stream) or {}
        except OSError as error:
            raise ExperimentError(f"{file} cannot be read ({error.strerror})") from error
        except yaml.YAMLError as error:
            raise ExperimentError(f"{file} is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise ExperimentError(f"{file} is not YAML of the form key: value")
        settings.update(content)
    return settings


def _config(model: str, dataset: str, settings: Mapping[str, Any], files: Sequence[str]) -> Any:
    from recbole.config import Config

    from recbole_sce.model.checks import check_data_settings, check_training_settings

    try:
        config = Config(model, dataset, list(files), copy.deepcopy(dict(settings)))
        check_data_settings(config)
        check_training_settings(config)
        return config
    except (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ExperimentError(f"{model} on {dataset}: {error}") from error


def _modules_of(cls: type) -> tuple[str, ...]:
    """Return what a process has to import, besides recbole_sce, to know the model ``cls`` by its name."""
    module = cls.__module__
    if module.startswith(("recbole.", "recbole_sce.")):
        return ()
    if module == "__main__":
        raise ExperimentError(
            f"{cls.__name__} is defined in the program itself, where other processes cannot find it: move it "
            "into a module of its own and import that"
        )
    return (module,)
