"""Search for good settings with Optuna: the study in the folder is the memory of the search.

Each trial trains in a process of its own. Several processes may work on one study: each takes the next trial.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from recbole_sce.experiments.process import run_in_process
from recbole_sce.experiments.samplers import ALGORITHMS, PRUNERS, pruner_of, sampler_of
from recbole_sce.experiments.space import Space, read_space
from recbole_sce.experiments.spec import ExperimentError, RunSpec, changes, make_spec, package_settings
from recbole_sce.utils.requirements import install_line

if TYPE_CHECKING:
    import optuna

#: How many trials, where nothing else says: what RecBole's ``HyperTuning`` does.
DEFAULT_TRIALS = 100
#: The file of the study, for Optuna's ``JournalStorage``; optuna-dashboard shows it.
STUDY_FILE = "study.log"
#: Settings that may differ between the processes that work on one study.
_OF_A_WORKER = ("gpu_id",)
#: Names of a study's attributes.
_SEARCH, _OUTCOME, _WORKER = "search", "outcome", "worker"


@dataclass(frozen=True)
class TuneEvent:
    """What happens in a search.

    ``kind`` is resumed, started, progress, done, pruned or failed; ``detail`` says more.
    """

    kind: str
    trial: int
    of: int
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Tuning:
    """The finished trials of a search.

    Args:
        model: the model's name.
        dataset: the data set's name.
        names: the parameters.
        trials: each with ``trial`` (its number, from 0 on), ``params``, ``status`` (done, pruned or failed),
            ``score`` (of ``valid_metric``), ``valid``, ``test``, ``epochs``, ``seconds``, ``resident_mib``
            and ``error``.
        bigger: whether a larger score is better.
        valid_metric: what the score is.
        folder: where the study is.
    """

    model: str
    dataset: str
    names: list[str]
    trials: list[dict[str, Any]]
    bigger: bool
    valid_metric: str
    folder: Path

    def best(self) -> dict[str, Any] | None:
        """Return the trial with the best validation score, of equal ones the first; None if there is none.

        A trial that was pruned was not the best.
        """
        done = [trial for trial in self.trials if trial["status"] == "done"]
        sign = 1 if self.bigger else -1
        return max(done, key=lambda trial: (sign * trial["score"], -trial["trial"]), default=None)


class _Pruned(Exception):
    """The pruner ends a trial."""


def tune(
    model: str,
    dataset: str,
    *,
    params_file: str | Path,
    algorithm: str = "exhaustive",
    max_evals: int | None = None,
    seed: int = 2020,
    pruner: str = "median",
    settings: Mapping[str, Any] | None = None,
    config_files: Sequence[str] = (),
    out: str | Path,
    resume: bool = False,
    listener: Callable[[TuneEvent], None] = lambda event: None,
) -> Tuning:
    """Search the parameters in ``params_file``; the validation score decides.

    The study is ``out/study.log``. With ``resume`` a search goes on where it was interrupted: a trial that
    was cut off is run again, and the settings of trial ``n`` depend on the space, the algorithm, ``seed``,
    ``n`` and (``bayes``) the trials before alone. A trial that fails is recorded, and the search goes on.

    Args:
        model: a model's name.
        dataset: a data set's name.
        params_file: the space; :func:`~recbole_sce.experiments.space.read_space` says its form.
        algorithm: exhaustive (each combination once), random, or bayes (tree-structured Parzen estimators).
        max_evals: how many trials; None: all of an exhaustive search, else 100.
        seed: of the search; that of the trainings is the configuration's.
        pruner: ``median`` ends a trial whose best validation so far is worse than the median of the other
            trials at that epoch, from the sixth trial and epoch on; ``halving`` is successive halving;
            ``none`` ends no trial.
        settings: configuration keys for all trials; they win over ``config_files``, the space over both.
        config_files: YAML files of configuration keys for all trials.
        out: the folder of the search; made if missing.
        resume: go on with the search in ``out``, or work on it beside other processes.
        listener: called with each :class:`TuneEvent`.

    Raises:
        ExperimentError: something is impossible; no trial has been made then.
    """
    for name, value, known in (("algorithm", algorithm, ALGORITHMS), ("pruner", pruner, PRUNERS)):
        if value not in known:
            raise ExperimentError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if max_evals is not None and max_evals < 1:
        raise ExperimentError(f"max_evals must be a whole number of at least 1, got {max_evals}")
    _optuna()
    space = read_space(params_file)
    count = max_evals or DEFAULT_TRIALS
    if algorithm == "exhaustive":
        size = math.prod(len(values) for values in space.grid().values())
        count = min(max_evals or size, size)

    def spec_of(values: Mapping[str, Any]) -> tuple[RunSpec, Any]:
        spec, config = make_spec(model, dataset, {**(settings or {}), **values}, config_files)
        _check_validation(config)
        return spec, config

    base, config = spec_of({})
    _check_values(space, spec_of)
    identity = base.identity()
    for key in _OF_A_WORKER:
        identity["settings"].pop(key, None)
    search = {
        **package_settings(config),
        **identity,
        "space": Path(params_file).read_text(encoding="utf-8").split("\n"),
        "algorithm": algorithm,
        "search_seed": seed,
        "pruner": pruner,
    }
    bigger, folder = bool(config["valid_metric_bigger"]), Path(out)
    study = _open_study(folder, search, pruner_of(pruner), bigger, resume)

    def tell_of(trial: int, kind: str, detail: Mapping[str, Any]) -> None:
        listener(TuneEvent(kind, trial, count, detail))

    finished = len(_finished(study))
    if finished:
        tell_of(finished, "resumed", {})
    while True:
        with _locked(folder / "claim"):
            trial = _next_trial(study, count, partial(sampler_of, algorithm, space, seed))
            if trial is None:
                break
            values = space.suggest(trial)
            trial.set_user_attr(_WORKER, _this_worker())
        tell = partial(tell_of, trial.number)
        tell("started", {"params": values})
        try:
            outcome = _run(study, trial, values, spec_of, folder, partial(tell, "progress"))
        except BaseException:
            trial.set_user_attr(_WORKER, None)
            raise
        tell(outcome["status"], outcome)
    return Tuning(model, dataset, space.names, _finished(study), bigger, str(config["valid_metric"]), folder)


def load_study(folder: str | Path) -> optuna.Study:
    """Return the Optuna study of a search, for analyses and pictures of one's own.

    Args:
        folder: of the search.
    """
    study: optuna.Study = _optuna().load_study(study_name=None, storage=_storage(Path(folder) / STUDY_FILE))
    return study


def _run(
    study: optuna.Study,
    trial: optuna.Trial,
    values: Mapping[str, Any],
    spec_of: Callable[[Mapping[str, Any]], tuple[RunSpec, Any]],
    folder: Path,
    listen: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Train one trial, tell the study its end, and return what is kept of it."""
    from optuna.trial import TrialState

    reported = dict(study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def progress(news: Mapping[str, Any]) -> None:
        listen(news)
        if "epoch" in news:
            if news["epoch"] not in reported:  # else by a training that was cut off, and the same
                trial.report(news["score"], news["epoch"])
            reported[news["epoch"]] = news["score"]
            if trial.should_prune():
                raise _Pruned

    work = folder / f"trial-{trial.number}"
    record: Mapping[str, Any]
    try:
        record = run_in_process(spec_of(values)[0], work, progress)
    except ExperimentError as error:  # this combination is impossible
        record = {"status": "failed", "error": str(error)}
    except _Pruned:
        best = max if study.direction.name == "MAXIMIZE" else min
        record = {"status": "pruned", "epochs": max(reported), "best_valid_score": best(reported.values())}
    outcome = {
        "trial": trial.number,
        "params": dict(values),
        "status": record["status"],
        "score": record.get("best_valid_score"),
        "valid": record.get("metrics", {}).get("valid", {}),
        "test": record.get("metrics", {}).get("test", {}),
        "epochs": record.get("epochs"),
        "seconds": record.get("seconds", {}).get("whole"),
        "resident_mib": record.get("memory_mib", {}).get("resident"),
        "error": record.get("error"),
    }
    trial.set_user_attr(_OUTCOME, outcome)
    states = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    value = outcome["score"] if outcome["status"] == "done" else None
    study.tell(trial, value, state=states[outcome["status"]])
    if outcome["status"] != "failed":
        shutil.rmtree(work, ignore_errors=True)
    return outcome


def _check_validation(config: Any) -> None:
    for key in ("eval_step", "epochs"):
        if config[key] < 1:
            raise ExperimentError(f"{key} must be at least 1, since validation decides, got {config[key]}")


def _check_values(space: Space, spec_of: Callable[[Mapping[str, Any]], Any]) -> None:
    """Refuse values that are impossible whatever the other parameters are: the message is about their key."""
    for one in space.parameters:
        for value in one.ends():
            try:
                spec_of({one.name: value})
            except ExperimentError as error:
                text = str(error)
                if text.split(": ", 1)[-1].startswith(f"{one.name} ") or f": {one.name}: " in text:
                    raise


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ExperimentError(f"a search needs optuna ({error}): {install_line('optuna')}") from error
    return optuna


def _storage(path: Path) -> Any:
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

    return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))


def _open_study(
    folder: Path, search: Mapping[str, Any], pruner: Any, bigger: bool, resume: bool
) -> optuna.Study:
    """Return the study in the folder, which is begun if there is none.

    Raises:
        ExperimentError: there is one and ``resume`` is false, or it is of another search.
    """
    import optuna

    path = folder / STUDY_FILE
    if path.exists() and not resume:
        raise ExperimentError(
            f"{folder} holds a search already: go on with it by --resume (resume=True), "
            "or name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _locked(path):
        _drop_half_a_line(path)
    with _locked(folder / "claim"):
        study = optuna.create_study(
            study_name="tuning",
            storage=_storage(path),
            pruner=pruner,
            direction="maximize" if bigger else "minimize",
            load_if_exists=True,
        )
        search = json.loads(json.dumps(search))
        changed = changes(study.user_attrs.get(_SEARCH, search), search)
        if changed:
            raise ExperimentError(
                f"{folder} holds another search: {'; '.join(changed)}. Trials of both cannot be compared: "
                "name another folder"
            )
        study.set_user_attr(_SEARCH, search)
    return study


def _drop_half_a_line(path: Path) -> None:
    """Drop what a process has written of a line before it, or the machine, died."""
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes that work in the folder out of the block."""
    from optuna.storages.journal import JournalFileOpenLock

    lock = JournalFileOpenLock(str(path))
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _next_trial(study: optuna.Study, count: int, sampler: Callable[[int], Any]) -> optuna.Trial | None:
    """Return a trial that was cut off, else a new one; None if there are ``count``."""
    import optuna

    trials = study.get_trials(deepcopy=False)
    for trial in trials[:count]:
        if trial.state == optuna.trial.TrialState.RUNNING and not _is_alive(trial.user_attrs.get(_WORKER)):
            study.sampler = sampler(trial.number)
            return optuna.Trial(study, trial._trial_id)
    study.sampler = sampler(len(trials))
    return study.ask() if len(trials) < count else None


def _this_worker() -> list[Any]:
    return [socket.gethostname(), os.getpid(), psutil.Process().create_time()]


def _is_alive(worker: Sequence[Any] | None) -> bool:
    """Return whether a process still works; one of another machine is believed to."""
    if worker is None:
        return False
    host, pid, created = worker
    if host != socket.gethostname():
        return True
    try:
        return bool(psutil.Process(pid).create_time() == created)
    except psutil.NoSuchProcess:
        return False


def _finished(study: optuna.Study) -> list[dict[str, Any]]:
    """Return what was kept of the finished trials, by number."""
    trials = study.get_trials(deepcopy=False)
    return [trial.user_attrs[_OUTCOME] for trial in trials if trial.state.is_finished()]
