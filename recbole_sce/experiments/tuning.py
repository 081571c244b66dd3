"""Search for good parameters: each trial a process of its own, on disk as soon as it has finished."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional, Union

from recbole_sce.experiments.journal import Journal
from recbole_sce.experiments.process import run_in_process
from recbole_sce.experiments.search import Search
from recbole_sce.experiments.spec import ExperimentError, RunSpec, make_spec, package_settings

#: How many trials, where nothing else says: what RecBole's ``HyperTuning`` does.
DEFAULT_TRIALS = 100
TOOLS = ("Hyperopt", "Ray")


@dataclass(frozen=True)
class TuneEvent:
    """What happens in a search. ``kind``: resumed, started, progress, done, failed; ``detail`` says more."""

    kind: str
    trial: int
    of: int
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Tuning:
    """The trials of a search.

    Args:
        model: the model's name.
        dataset: the data set's name.
        names: the parameters.
        trials: each with ``trial`` (its number, from 0 on), ``params``, ``status`` (done or failed),
            ``score`` (of ``valid_metric``), ``valid``, ``test``, ``seconds``, ``resident_mib``, ``error``.
        bigger: whether a larger score is better.
        valid_metric: what the score is.
        folder: where ``trials.jsonl`` is.
    """

    model: str
    dataset: str
    names: list[str]
    trials: list[dict[str, Any]]
    bigger: bool
    valid_metric: str
    folder: Path

    def best(self) -> Optional[dict[str, Any]]:
        """Return the trial with the best validation score, of equal ones the first; None if all failed."""
        done = [trial for trial in self.trials if trial["status"] == "done"]
        sign = 1 if self.bigger else -1
        return max(done, key=lambda trial: (sign * trial["score"], -trial["trial"])) if done else None


def tune(
    model: str,
    dataset: str,
    *,
    params_file: Union[str, Path],
    algorithm: str = "exhaustive",
    max_evals: Optional[int] = None,
    seed: int = 2020,
    settings: Optional[Mapping[str, Any]] = None,
    config_files: Sequence[str] = (),
    out: Union[str, Path],
    resume: bool = False,
    tool: str = "Hyperopt",
    address: Optional[str] = None,
    cpus: Optional[int] = None,
    cpus_per_trial: float = 1,
    gpus_per_trial: Optional[float] = None,
    listener: Callable[[TuneEvent], None] = lambda event: None,
) -> Tuning:
    """Search the parameters in ``params_file``; the validation score decides.

    Every finished trial is a line of ``out/trials.jsonl``. An interrupted search goes on with ``resume`` as
    if it had not been interrupted: it tries what it would have tried. A trial that fails is recorded, and
    the search goes on. There is no early stop: as many trials are made as were asked for.

    Args:
        model: a model's name.
        dataset: a data set's name.
        params_file: the space, in the form of RecBole's ``HyperTuning``.
        algorithm: exhaustive, random or bayes (tree-structured Parzen estimators).
        max_evals: how many trials; None: all of an exhaustive search, else 100.
        seed: of the search; that of the trainings is the configuration's.
        settings: configuration keys for all trials; they win over ``config_files``, the space over both.
        config_files: YAML files of configuration keys for all trials.
        out: the folder of the search; made if missing.
        resume: go on with the search in ``out``.
        tool: ``Hyperopt``: one trial after the other; ``Ray``: Ray Tune, several at once (not for bayes).
        address: of a Ray cluster; None: this machine.
        cpus: of this machine that Ray may use; None: all.
        cpus_per_trial: of a Ray trial.
        gpus_per_trial: of a Ray trial; None: one if there are any.
        listener: called with each :class:`TuneEvent`.

    Raises:
        ExperimentError: something is impossible; no trial has been made then.
    """
    if tool not in TOOLS:
        raise ExperimentError(f"tool: {tool!r} is not allowed; {' and '.join(TOOLS)} are")
    if max_evals is not None and max_evals < 1:
        raise ExperimentError(f"max_evals: {max_evals} is not allowed; a whole number of at least 1 is")
    if tool == "Ray" and algorithm == "bayes":
        raise ExperimentError(
            "bayes learns from the trials before and makes one at a time: use it with the tool Hyperopt, or "
            "random with Ray"
        )
    search = Search(params_file, algorithm, seed)
    count = min(max_evals or search.size or DEFAULT_TRIALS, search.size or max_evals or DEFAULT_TRIALS)

    base, config = make_spec(model, dataset, settings or {}, config_files)

    def spec_of(values: Mapping[str, Any]) -> RunSpec:
        own = {**(settings or {}), **search.parameters(values)}
        return make_spec(model, dataset, own, config_files)[0]

    header = {
        **package_settings(config),
        **base.identity(),
        "space": Path(params_file).read_text(encoding="utf-8").split("\n"),
        "algorithm": algorithm,
        "search_seed": seed,
    }
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / "trials.jsonl", header, resume)
    bigger = bool(config["valid_metric_bigger"])
    if journal.trials:
        listener(TuneEvent("resumed", len(journal.trials), count, {}))

    def keep(number: int, values: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        journal.add(_trial(number, values, search.parameters(values), record, bigger))
        listener(TuneEvent(record["status"], number, count, journal.trials[-1]))

    if tool == "Ray":
        from recbole_sce.experiments.ray_tune import run_trials

        drawn = {number: search.values(number, []) for number in _missing(journal, count)}
        specs = {}
        for number, values in drawn.items():
            try:
                specs[number] = spec_of(values)
            except ExperimentError as error:  # this combination is impossible
                keep(number, values, {"status": "failed", "error": str(error)})
        run_trials(
            specs,
            lambda number, record: keep(number, drawn[number], record),
            folder=folder,
            address=address,
            cpus=cpus,
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
        )
    else:
        for number in _missing(journal, count):
            values = search.values(number, journal.trials)
            event = partial(TuneEvent, trial=number, of=count)
            listener(event("started", detail={"params": search.parameters(values)}))
            try:
                spec = spec_of(values)
            except ExperimentError as error:
                keep(number, values, {"status": "failed", "error": str(error)})
                continue
            work = folder / f"trial-{number}"
            record = run_in_process(spec, work, partial(_pass_on, listener, event))
            keep(number, values, record)
            if record["status"] == "done":
                shutil.rmtree(work, ignore_errors=True)
    trials = sorted(journal.trials, key=lambda trial: trial["trial"])
    return Tuning(model, dataset, search.names, trials, bigger, str(config["valid_metric"]), folder)


def _missing(journal: Journal, count: int) -> list[int]:
    there = {trial["trial"] for trial in journal.trials}
    return [number for number in range(count) if number not in there]


def _pass_on(
    listener: Callable[[TuneEvent], None], event: Callable[..., TuneEvent], news: Mapping[str, Any]
) -> None:
    listener(event("progress", detail=news))


def _trial(
    number: int,
    values: Mapping[str, Any],
    parameters: Mapping[str, Any],
    record: Mapping[str, Any],
    bigger: bool,
) -> dict[str, Any]:
    """Return what is kept of a trial."""
    score = record.get("best_valid_score")
    return {
        "trial": number,
        "params": dict(parameters),
        "status": record["status"],
        "score": score,
        "loss": None if score is None else -score if bigger else score,
        "valid": record.get("metrics", {}).get("valid", {}),
        "test": record.get("metrics", {}).get("test", {}),
        "epochs": record.get("epochs"),
        "seconds": record.get("seconds", {}).get("whole"),
        "resident_mib": record.get("memory_mib", {}).get("resident"),
        "error": record.get("error"),
        "values": dict(values),
    }
