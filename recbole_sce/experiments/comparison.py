"""Several models on one data set under one protocol: each training in a process of its own, resumable."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recbole_sce.experiments.process import run_in_process
from recbole_sce.experiments.spec import (
    Candidate,
    ExperimentError,
    RunSpec,
    changes,
    make_spec,
    package_settings,
    read_files,
)
from recbole_sce.utils.files import write_json

#: How RecBole evaluates sequential models: the last interaction tests, the one before validates.
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"}
_DEFAULTS = {"eval_args": LEAVE_ONE_OUT, "valid_metric": "NDCG@10"}
#: The recipe of variants for which none is set: what a comparison asks by default is what the loss does.
PLAIN = "plain"
#: What has to be equal for all candidates, or their figures cannot be compared.
PROTOCOL = (
    "eval_args",
    "metrics",
    "topk",
    "valid_metric",
    "metric_decimal_place",
    "MAX_ITEM_LIST_LENGTH",
    "user_inter_num_interval",
    "item_inter_num_interval",
    "val_interval",
    "rm_dup_inter",
    "filter_inter_by_user_or_item",
    "data_path",
    "benchmark_filename",
    "temporal_holdout",
)


@dataclass(frozen=True)
class Event:
    """What happens in a comparison, as it happens.

    ``kind`` is one of: skipped (finished earlier; ``detail``: the record), started (what of the record is
    known before), progress (what :func:`~recbole_sce.experiments.process.execute` tells), done, failed (the
    record).
    """

    kind: str
    number: int
    of: int
    label: str
    seed: int
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison, in the order of the candidates, then of the seeds.

    Args:
        dataset: the data set's name.
        records: one record a run: what :func:`~recbole_sce.experiments.process.execute` returns, with
            ``label``, ``model``, ``seed``, ``spec`` and ``package_settings``.
        folder: where they are; ``runs/*.npz`` holds the values of each test user.
        protocol: the settings that are equal for all.
    """

    dataset: str
    records: list[dict[str, Any]]
    folder: Path
    protocol: Mapping[str, Any]

    def done(self) -> list[dict[str, Any]]:
        """Return the records of the runs that did not fail."""
        return [record for record in self.records if record["status"] == "done"]

    def failed(self) -> list[dict[str, Any]]:
        """Return the records of the runs that failed."""
        return [record for record in self.records if record["status"] == "failed"]

    def user_values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of each test user of a run, by metric, with the ids under ``users``."""
        with np.load(run_file(self.folder, record["label"], record["seed"], "npz")) as content:
            return {name: content[name] for name in content.files}


def compare(
    candidates: Sequence[str | Candidate],
    dataset: str,
    *,
    seeds: Sequence[int] = (2020,),
    losses: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    config_files: Sequence[str] = (),
    out: str | Path,
    listener: Callable[[Event], None] = lambda event: None,
) -> Comparison:
    """Train and test each candidate with each seed, one after the other, each in a process of its own.

    Models of recbole_sce are trained with ``recipe: plain``, unless ``settings``, a candidate or a file sets
    another: they then differ from RecBole's in loss and positions alone.

    Every finished run is one file in ``out``; runs that are there already are not repeated, so that a
    comparison that was interrupted goes on, and further candidates or seeds can be added later.

    Args:
        candidates: :class:`Candidate`, or what :meth:`Candidate.parse` reads (``SASRec``,
            ``SASRecSCE:CE``, ``label=Model:loss``).
        dataset: the data set's name.
        seeds: one run of each candidate for each.
        losses: if given, each model of recbole_sce that names no loss is run with each of these.
        settings: configuration keys for all candidates; they win over ``config_files``.
        config_files: YAML files of configuration keys for all candidates.
        out: the folder of the comparison; made if missing.
        listener: called with each :class:`Event`.

    Raises:
        ExperimentError: a candidate is impossible, two have one label, the protocol is not the same for
            all, or ``out`` holds runs with other settings. Nothing has been run then.
    """
    of_files = read_files(config_files)
    unset = {key: value for key, value in _DEFAULTS.items() if key not in of_files}
    listed = _listed(candidates, losses)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ExperimentError(f"seeds must be one or more different whole numbers, got {list(seeds)}")
    given = {**unset, **(settings or {})}
    specified = {one.label: _specified(one, dataset, given, config_files) for one in listed}
    protocol = common_protocol({label: config for label, (_, config) in specified.items()})
    _check_data(specified[listed[0].label][1])

    out = Path(out)
    plan = [_planned(one, seed, *specified[one.label]) for seed in seeds for one in listed]
    _check_folder(out, [planned for _, planned in plan])

    def tell_of(number: int, planned: Mapping[str, Any], kind: str, detail: Mapping[str, Any]) -> None:
        listener(Event(kind, number, len(plan), planned["label"], planned["seed"], detail))

    records: dict[tuple[str, int], dict[str, Any]] = {}
    for number, (spec, planned) in enumerate(plan, 1):
        tell, label, seed = partial(tell_of, number, planned), planned["label"], planned["seed"]
        record = _finished(out, label, seed)
        if record is not None:
            tell("skipped", record)
        else:
            tell("started", planned)
            work = run_file(out, label, seed, "work")
            record = {**planned, **run_in_process(spec, work, partial(tell, "progress"))}
            _keep(out, record)
            tell(record["status"], record)
        records[label, seed] = record
    ordered = [records[one.label, seed] for one in listed for seed in seeds]
    return Comparison(dataset, ordered, out, protocol)


def run_file(out: Path, label: str, seed: int, ending: str) -> Path:
    """Return the path of a run's file (``json``, ``npz``) or folder (``work``)."""
    name = re.sub(r"[^\w.-]", "_", label)
    return out / "runs" / f"{name}-seed{seed}.{ending}"


def common_protocol(configs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of the configurations that has to be equal.

    Args:
        configs: RecBole's ``Config`` of each candidate, by label.

    Raises:
        ExperimentError: it differs; the message names the key and the candidates.
    """
    first = next(iter(configs))
    protocol = _protocol(configs[first])
    for label, config in configs.items():
        for key, value in _protocol(config).items():
            if protocol[key] != value:
                raise ExperimentError(
                    f"{key} is {protocol[key]!r} for {first} and {value!r} for {label}, and figures can only "
                    "be compared under one protocol: set it for all of them"
                )
    return protocol


def _protocol(config: Any) -> dict[str, Any]:
    """Return the protocol; ``exclude_seen`` is what the model does, whatever the key says."""
    from recbole.utils import ModelType

    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    exclude_seen = bool(config["exclude_seen"]) if sequential else not config["repeatable"]
    return {**{key: config[key] for key in PROTOCOL}, "exclude_seen": exclude_seen}


def _listed(candidates: Sequence[str | Candidate], losses: Sequence[str]) -> list[Candidate]:
    """Return the candidates, those without a loss of their own once for each of ``losses``."""
    from recbole_sce.plugin import registered_models

    listed: list[Candidate] = []
    for candidate in candidates:
        one = Candidate.parse(candidate) if isinstance(candidate, str) else candidate
        if losses and one.loss is None and one.model in registered_models():
            listed += [replace(one, label=f"{one.label}:{loss}", loss=loss) for loss in losses]
        else:
            listed.append(one)
    if not listed:
        raise ExperimentError("there is nothing to compare: name one model at least")
    files = [run_file(Path(), one.label, 0, "json") for one in listed]
    for one, file in zip(listed, files):
        if files.count(file) > 1:
            raise ExperimentError(
                f"two candidates are called {one.label}: write label=Model to call one otherwise"
            )
    return listed


def _specified(
    candidate: Candidate, dataset: str, settings: Mapping[str, Any], config_files: Sequence[str]
) -> tuple[RunSpec, Any]:
    from recbole.utils import ModelType

    from recbole_sce.plugin import registered_models

    own = {**settings, **candidate.settings}
    if candidate.loss is not None:
        own["loss_type"] = candidate.loss
    given = {**read_files(config_files), **own}
    own.setdefault("repeatable", given.get("repeatable", True))
    if candidate.model in registered_models():
        own.setdefault("recipe", given.get("recipe", PLAIN))
    spec, config = make_spec(candidate.model, dataset, own, config_files)
    excluded = str(given.get("exclude_seen")).lower() == "true"
    if excluded and "repeatable" not in given and config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        spec, config = make_spec(candidate.model, dataset, {**own, "repeatable": False}, config_files)
    ranking = (ModelType.SEQUENTIAL, ModelType.GENERAL, ModelType.TRADITIONAL, ModelType.KNOWLEDGE)
    if config["MODEL_TYPE"] not in ranking:
        raise ExperimentError(
            f"{candidate.model} predicts ratings or clicks: it cannot be ranked against the others; general, "
            "sequential, knowledge-aware and traditional recommenders can"
        )
    cls = config.model_class
    if candidate.loss is not None and hasattr(cls, "input_type") and not hasattr(cls, "check_config"):
        raise ExperimentError(f"{candidate.model} has one loss only: leave :{candidate.loss} out")
    return spec, config


def _check_data(config: Any) -> None:
    """Refuse a data set that is neither there nor known to RecBole, which could download it."""
    from recbole.data.dataset import Dataset

    path = Path(config["data_path"])
    if path.is_dir() and any(path.iterdir()):
        return
    dataset = Dataset.__new__(Dataset)
    dataset.config, dataset.dataset_name, dataset.dataset_path = config, config["dataset"], str(path)
    try:
        dataset._get_download_url("url")
    except ValueError as error:
        raise ExperimentError(str(error)) from error


def _planned(candidate: Candidate, seed: int, spec: RunSpec, config: Any) -> tuple[RunSpec, dict[str, Any]]:
    """Return what is run, and what the record of the run begins with."""
    from recbole_sce.settings.recipes import recipe_of

    spec = replace(spec, settings={**spec.settings, "seed": seed})
    return spec, {
        "label": candidate.label,
        "model": candidate.model,
        "seed": seed,
        "recipe": recipe_of(config),
        "spec": spec.identity(),
        "package_settings": package_settings(config),
    }


def _finished(out: Path, label: str, seed: int) -> dict[str, Any] | None:
    """Return the record of a run that is done; None if there is none, or one that failed."""
    try:
        record: dict[str, Any] = json.loads(run_file(out, label, seed, "json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return record if record["status"] == "done" else None


def _check_folder(out: Path, plan: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a folder with finished runs of the same names and other settings.

    Those of the package's own files count, too: another version may have other values in them.
    """
    for planned in plan:
        label, seed = planned["label"], planned["seed"]
        record = _finished(out, label, seed)
        changed = changes(_flat(record), _flat(planned)) if record is not None else None
        if changed:
            raise ExperimentError(
                f"{out} holds a run of {label} with other settings: {'; '.join(changed)}. Name another "
                f"folder, or remove {run_file(out, label, seed, 'json')} to run it again"
            )


def _flat(planned: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was decided of a run before it began, by key; what was given wins over the package's."""
    spec = planned["spec"]
    outer = {key: value for key, value in spec.items() if key not in ("settings", "config_files")}
    return {**planned["package_settings"], **outer, **spec["config_files"], **spec["settings"]}


def _keep(out: Path, record: Mapping[str, Any]) -> None:
    """Put a run's record and users' values into the folder; the working folder of a finished one goes."""
    label, seed = record["label"], record["seed"]
    work = run_file(out, label, seed, "work")
    if record["status"] == "done":
        (work / "users.npz").replace(run_file(out, label, seed, "npz"))
    write_json(run_file(out, label, seed, "json"), record)
    if record["status"] == "done":
        shutil.rmtree(work)
