"""The search, with a stand-in for the training: it is fast, and scores what the test says."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import draw, needs_chromium

optuna = pytest.importorskip("optuna", reason="searching needs the extra recbole_sce[tune]")

from recbole_sce.experiments import tuning as tune_module  # noqa: E402
from recbole_sce.experiments.spec import ExperimentError, RunSpec  # noqa: E402
from recbole_sce.experiments.trials import write_trials  # noqa: E402
from recbole_sce.experiments.tuning import Tuning, load_study  # noqa: E402

SPACES = {
    "exhaustive": "learning_rate choice [0.001,0.002,0.003]\nbucket_size_y choice [16,32]\n",
    "random": "learning_rate loguniform -8,-5\nbucket_size_y choice [16,32]\n",
    "bayes": "learning_rate loguniform -8,-5\nbucket_size_y choice [16,32]\n",
}


class Trainings:
    """Stands for ``run_in_process``: reports a validation after each epoch, with the score of the test."""

    def __init__(
        self, score: Callable[[int, dict[str, Any]], float | BaseException | str], epochs: int
    ) -> None:
        self.specs: list[RunSpec] = []
        self._score, self._epochs = score, epochs

    def __call__(self, spec: RunSpec, folder: Path, progress: Any) -> dict[str, Any]:
        score = self._score(len(self.specs), dict(spec.settings))
        self.specs.append(spec)
        if isinstance(score, BaseException):
            progress({"epoch": 1, "score": 0.0})
            raise score
        if isinstance(score, str):
            return {"status": "failed", "error": score, "seconds": {"whole": 1.0}}
        for epoch in range(1, self._epochs + 1):
            progress({"epoch": epoch, "score": score})
        metrics = {"mrr@10": score}
        return {
            "status": "done",
            "best_valid_score": score,
            "metrics": {"valid": metrics, "test": metrics},
            "epochs": self._epochs,
            "seconds": {"whole": 1.0},
            "memory_mib": {"resident": 500.0},
        }


Tune = Callable[..., Tuning]


@pytest.fixture
def tune(tiny_dataset: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tune:
    def run(
        score: Any, algorithm: str = "exhaustive", space: str | None = None, epochs: int = 1, **more: Any
    ) -> Tuning:
        file = tmp_path / "space.hyper"
        file.write_text(space or SPACES[algorithm])
        run.trainings = Trainings(score, epochs)  # type: ignore[attr-defined]
        monkeypatch.setattr(tune_module, "run_in_process", run.trainings)  # type: ignore[attr-defined]
        given = {"settings": tiny_dataset, "out": tmp_path / "out", **more}
        return tune_module.tune("SASRecSCE", "tiny", params_file=file, algorithm=algorithm, **given)

    return run


def by_rate(number: int, settings: dict[str, Any]) -> float:
    return float(settings["learning_rate"]) * settings["bucket_size_y"]


@pytest.mark.parametrize("algorithm", list(SPACES))
def test_killed_and_resumed_it_ends_as_if_never_killed(tune: Tune, tmp_path: Path, algorithm: str) -> None:
    whole = tune(by_rate, algorithm, max_evals=6, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        tune(lambda n, s: KeyboardInterrupt() if n == 3 else by_rate(n, s), algorithm, max_evals=6)
    with open(tmp_path / "out" / "study.log", "ab") as file:
        file.write(b'{"op_code": 3, "par')  # the machine died while this line was written
    resumed = tune(by_rate, algorithm, max_evals=6, resume=True)
    assert len(tune.trainings.specs) == 3  # type: ignore[attr-defined]
    assert resumed.trials == whole.trials
    assert [trial["trial"] for trial in resumed.trials] == list(range(6))


def test_bayes_learns(tune: Tune) -> None:
    """After Optuna's ten random trials it looks where the score is good."""
    tuning = tune(by_rate, "bayes", max_evals=30, pruner="none")
    scores = [trial["score"] for trial in tuning.trials]
    assert sum(scores[20:]) / 10 > sum(scores[:10]) / 10


def test_another_seed_is_another_search(tune: Tune, tmp_path: Path) -> None:
    one, other = (
        tune(by_rate, "random", max_evals=3, out=tmp_path / str(seed), seed=seed) for seed in (1, 2)
    )
    assert [trial["params"] for trial in one.trials] != [trial["params"] for trial in other.trials]


class TestWorkers:
    """A trial that another process holds is left to it, as long as that process lives."""

    def interrupted(self, tune: Tune, worker: list[Any]) -> None:
        with pytest.raises(KeyboardInterrupt):
            tune(lambda n, s: KeyboardInterrupt() if n == 1 else by_rate(n, s))
        study = load_study(Path("out"))
        trial = optuna.Trial(study, study.trials[1]._trial_id)
        trial.set_user_attr("worker", worker)

    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_one_that_lives_keeps_it(self, tune: Tune) -> None:
        self.interrupted(tune, tune_module._this_worker())
        tuning = tune(by_rate, resume=True)
        assert [trial["trial"] for trial in tuning.trials] == [0, 2, 3, 4, 5]

    def test_one_of_another_machine_keeps_it(self, tune: Tune) -> None:
        self.interrupted(tune, ["another", 1, 0.0])
        assert len(tune(by_rate, resume=True).trials) == 5

    @pytest.mark.parametrize("pid", [os.getpid(), 2**22 + 1], ids=["reused", "gone"])
    def test_one_that_died_does_not(self, tune: Tune, pid: int) -> None:
        """Nor one whose number another process has got since."""
        self.interrupted(tune, [socket.gethostname(), pid, 0.0])
        tuning = tune(by_rate, resume=True)
        assert [trial["trial"] for trial in tuning.trials] == list(range(6))


class TestPruning:
    SPACE = "learning_rate choice [0.001,0.002,0.003,0.004,0.005,0.006,0.007,0.008]\n"

    @staticmethod
    def falling(number: int, settings: dict[str, Any]) -> float:
        return 1.0 / (1 + number)

    def test_the_median_pruner_ends_what_is_worse(self, tune: Tune) -> None:
        events: list[Any] = []
        tuning = tune(self.falling, space=self.SPACE, epochs=9, listener=events.append)
        assert [trial["status"] for trial in tuning.trials] == ["done"] * 5 + ["pruned"] * 3
        last = tuning.trials[-1]
        assert (last["score"], last["epochs"], last["test"]) == (1 / 8, 5, {})
        assert events[-1].kind == "pruned"
        assert tuning.best() == tuning.trials[0]

    def test_first_epochs_are_no_verdict(self, tune: Tune) -> None:
        tuning = tune(self.falling, space=self.SPACE, epochs=4)
        assert {trial["status"] for trial in tuning.trials} == {"done"}

    def test_none_ends_nothing(self, tune: Tune) -> None:
        tuning = tune(self.falling, space=self.SPACE, epochs=9, pruner="none")
        assert {trial["status"] for trial in tuning.trials} == {"done"}

    def test_a_pruned_training_stops(self, tune: Tune, tmp_path: Path) -> None:
        tune(self.falling, space=self.SPACE, epochs=9)
        values = load_study(tmp_path / "out").trials[-1].intermediate_values
        assert max(values) == 5


def test_more_trials_can_be_asked_for_later(tune: Tune) -> None:
    tune(by_rate, "random", max_evals=2)
    assert len(tune(by_rate, "random", max_evals=3, resume=True).trials) == 3
    assert len(tune.trainings.specs) == 1  # type: ignore[attr-defined]


def test_exhaustive_ends_with_the_grid(tune: Tune) -> None:
    assert len(tune(by_rate, max_evals=100).trials) == 6


@pytest.mark.parametrize(
    ("scores", "metric", "best"),
    [
        ([0.0, -1.0, -2.0], "MRR@10", 0),
        ([-1.0, 0.0, -2.0], "MRR@10", 1),
        ([0.0, 0.0], "MRR@10", 0),
        ([0.0, 3.0], "LogLoss", 0),
        ([2.0, 0.0, 3.0], "LogLoss", 1),
    ],
)
def test_zero_is_a_score(tune: Tune, scores: list[float], metric: str, best: int, tmp_path: Path) -> None:
    tuning = Tuning("M", "d", [], [], metric != "LogLoss", metric, tmp_path)
    for number, score in enumerate(scores):
        tuning.trials.append({"trial": number, "status": "done", "score": score})
    trial = tuning.best()
    assert trial is not None
    assert trial["trial"] == best


def test_a_score_of_zero_is_kept(tune: Tune) -> None:
    tuning = tune(lambda n, s: 0.0 if n == 1 else -1.0, max_evals=3)
    assert tuning.best() == tuning.trials[1]
    assert tuning.trials[1]["score"] == 0.0


def test_failed_trials_are_recorded_and_passed_over(tune: Tune) -> None:
    events: list[Any] = []
    tuning = tune(lambda n, s: "it broke" if n == 0 else by_rate(n, s), listener=events.append)
    assert [trial["status"] for trial in tuning.trials] == ["failed"] + ["done"] * 5
    assert tuning.trials[0]["error"] == "it broke"
    kinds = [event.kind for event in events if event.kind != "progress"]
    assert kinds[:4] == ["started", "failed", "started", "done"]
    tune(by_rate, resume=True)
    assert tune.trainings.specs == []  # type: ignore[attr-defined]


def test_impossible_combinations_fail_alone(tune: Tune) -> None:
    """Each value is possible beside another; both together are not: a row of one target has no later one."""
    space = "target_discount choice [0.0,0.4]\ntrain_positions choice ['all','last']\n"
    tuning = tune(lambda n, s: 0.5, space=space)
    status = {tuple(trial["params"].values()): trial["status"] for trial in tuning.trials}
    assert status == {(0, "all"): "done", (0, "last"): "done", (0.4, "all"): "done", (0.4, "last"): "failed"}
    (failed,) = [trial for trial in tuning.trials if trial["status"] == "failed"]
    assert "target_discount" in failed["error"]


def test_impossible_values_are_refused_before_any_trial(tune: Tune, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"bucket_size_y.* 0"):
        tune(lambda n, s: 0.5, space="bucket_size_y choice [16,0]\n")
    assert tune.trainings.specs == []  # type: ignore[attr-defined]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["eval_step", "epochs"])
def test_a_search_without_validation_is_refused(
    tune: Tune, tiny_dataset: dict[str, Any], tmp_path: Path, key: str
) -> None:
    with pytest.raises(ExperimentError, match=f"{key} must be at least 1, since validation decides, got 0"):
        tune(by_rate, settings={**tiny_dataset, key: 0})
    assert not (tmp_path / "out").exists()


def test_the_space_wins_over_settings(tune: Tune, tiny_dataset: dict[str, Any]) -> None:
    tune(by_rate, settings={**tiny_dataset, "learning_rate": 0.5})
    rates = {spec.settings["learning_rate"] for spec in tune.trainings.specs}  # type: ignore[attr-defined]
    assert rates == {0.001, 0.002, 0.003}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"algorithm": "grid", "space": "a choice [1]"}, "algorithm must be one of .*, got 'grid'"),
        ({"pruner": "best"}, "pruner must be one of median, halving, none, got 'best'"),
        ({"max_evals": 0}, "max_evals must be a whole number of at least 1, got 0"),
        ({"settings": {"bucket_size_y": -1}}, "bucket_size_y.*-1"),
    ],
)
def test_what_is_impossible_is_said_before_anything_runs(
    tune: Tune, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExperimentError, match=message):
        tune(by_rate, **given)
    assert tune.trainings.specs == []  # type: ignore[attr-defined]


def test_other_settings_are_another_search(tune: Tune, tiny_dataset: dict[str, Any]) -> None:
    tune(by_rate, max_evals=1)
    with pytest.raises(ExperimentError, match="holds a search already"):
        tune(by_rate, max_evals=1)
    with pytest.raises(ExperimentError, match=r"another search: .*settings was"):
        tune(by_rate, settings={**tiny_dataset, "epochs": 2}, resume=True)


def test_each_worker_may_have_a_gpu_of_its_own(tune: Tune, tiny_dataset: dict[str, Any]) -> None:
    tune(by_rate, max_evals=1)
    tune(by_rate, max_evals=2, settings={**tiny_dataset, "gpu_id": "1"}, resume=True)
    assert tune.trainings.specs[0].settings["gpu_id"] == "1"  # type: ignore[attr-defined]


def test_other_defaults_are_another_search(tune: Tune, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(by_rate, max_evals=1)
    of_package = tune_module.package_settings
    monkeypatch.setattr(
        tune_module, "package_settings", lambda config: {**of_package(config), "mix_x": False}
    )
    with pytest.raises(ExperimentError, match="another search: mix_x was True and is False"):
        tune(by_rate, max_evals=2, resume=True)


class TestFiles:
    @pytest.fixture
    def written(self, tune: Tune, tmp_path: Path) -> dict[str, Path]:
        tuning = tune(lambda n, s: "broken | it" if n == 2 else by_rate(n, s))
        return write_trials(tuning, output_file=tmp_path / "mine.result")

    def test_all_are_there(self, written: dict[str, Path], tmp_path: Path) -> None:
        assert written["result"] == tmp_path / "mine.result"
        assert all(path.is_file() for path in written.values())

    def test_markdown_has_the_best_first(self, written: dict[str, Path]) -> None:
        lines = written["md"].read_text().splitlines()
        assert len(lines) == 8
        assert [cell.strip() for cell in lines[2].split("|")][2:6] == ["done", "0.003", "32", "0.096"]
        assert "failed" in lines[-1]

    def test_result_file_has_recboles_form(self, written: dict[str, Path]) -> None:
        blocks = written["result"].read_text().strip().split("\n\n")
        assert len(blocks) == 5
        (block,) = [one for one in blocks if one.startswith("learning_rate:0.001, bucket_size_y:16\n")]
        assert block.splitlines()[1:] == ["Valid result:", "mrr@10 : 0.016", "Test result:", "mrr@10 : 0.016"]

    def test_page_tells_the_best_and_the_failed(self, written: dict[str, Path]) -> None:
        text = written["html"].read_text(encoding="utf-8")
        assert "learning_rate = 0.003, bucket_size_y = 32" in text
        assert "broken | it" in text
        assert "plot-course" in text
        assert "plot-parameters" in text

    @pytest.mark.slow
    @needs_chromium
    def test_a_browser_draws_the_page(self, written: dict[str, Path], tmp_path: Path) -> None:
        drawn = draw(written["html"], tmp_path)
        assert drawn.console == []
        for name, points in (("course", 5), ("parameters", 10), ("curves", 5)):
            plot = drawn.dom[drawn.dom.index(f'id="plot-{name}"') :]
            plot = plot[: plot.index("</script>")]
            assert len(re.findall(r'<path[^>]*class="point[" ]', plot)) >= points, name

    def test_nothing_but_failures_can_be_written(self, tune: Tune, tmp_path: Path) -> None:
        tuning = tune(lambda n, s: "no", out=tmp_path / "failures")
        assert tuning.best() is None
        assert "6 failed" in write_trials(tuning)["html"].read_text(encoding="utf-8")
