"""The search, with a stand-in for the training: it is fast, and scores what the test says."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import draw, needs_chromium

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hyperopt") is None, reason="searching needs the extra recbole_sce[hyperopt]"
)

from recbole_sce.experiments import tuning as tune_module  # noqa: E402
from recbole_sce.experiments.spec import ExperimentError, RunSpec  # noqa: E402
from recbole_sce.experiments.trials import write_trials  # noqa: E402
from recbole_sce.experiments.tuning import Tuning, _trial  # noqa: E402

SPACES = {
    "exhaustive": "learning_rate choice [0.001,0.002,0.003]\nbucket_size_y choice [16,32]\n",
    "random": "learning_rate loguniform -8,-5\nbucket_size_y choice [16,32]\n",
    "bayes": "learning_rate loguniform -8,-5\nbucket_size_y choice [16,32]\n",
}


class Trainings:
    """Stands for ``run_in_process``."""

    def __init__(self, score: Callable[[int, dict[str, Any]], float | BaseException | str]) -> None:
        self.specs: list[RunSpec] = []
        self._score = score

    def __call__(self, spec: RunSpec, folder: Path, progress: Any) -> dict[str, Any]:
        found = self._score(len(self.specs), dict(spec.settings))
        self.specs.append(spec)
        if isinstance(found, BaseException):
            raise found
        if isinstance(found, str):
            return {"status": "failed", "error": found, "seconds": {"whole": 1.0}}
        metrics = {"mrr@10": found}
        return {
            "status": "done",
            "best_valid_score": found,
            "metrics": {"valid": metrics, "test": metrics},
            "epochs": 1,
            "seconds": {"whole": 1.0},
            "memory_mib": {"resident": 500.0},
        }


Tune = Callable[..., Tuning]


@pytest.fixture
def tune(tiny_dataset: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tune:
    def run(score: Any, algorithm: str = "exhaustive", space: str | None = None, **more: Any) -> Tuning:
        file = tmp_path / "space.hyper"
        file.write_text(space or SPACES[algorithm])
        run.trainings = Trainings(score)  # type: ignore[attr-defined]
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
    with open(tmp_path / "out" / "trials.jsonl", "ab") as file:
        file.write(b'{"trial": 3, "par')
    resumed = tune(by_rate, algorithm, max_evals=6, resume=True)
    assert len(tune.trainings.specs) == 3  # type: ignore[attr-defined]
    assert resumed.trials == whole.trials
    assert [trial["trial"] for trial in resumed.trials] == list(range(6))
    lines = (tmp_path / "out" / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["trial"] for line in lines[1:]] == list(range(6))


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
    found = tuning.best()
    assert found is not None
    assert found["trial"] == best


def test_a_score_of_zero_is_kept(tune: Tune) -> None:
    tuning = tune(lambda n, s: 0.0 if n == 1 else -1.0, max_evals=3)
    assert tuning.best() == tuning.trials[1]
    assert tuning.trials[1]["score"] == 0.0


def test_failed_trials_are_recorded_and_passed_over(tune: Tune) -> None:
    events: list[Any] = []
    tuning = tune(lambda n, s: "it broke" if n == 0 else by_rate(n, s), listener=events.append)
    assert [trial["status"] for trial in tuning.trials] == ["failed"] + ["done"] * 5
    assert tuning.trials[0]["error"] == "it broke"
    assert [event.kind for event in events[:4]] == ["started", "failed", "started", "done"]
    tune(by_rate, resume=True)
    assert tune.trainings.specs == []  # type: ignore[attr-defined]


def test_impossible_combinations_fail_alone(tune: Tune) -> None:
    tuning = tune(lambda n, s: 0.5, space="bucket_size_y choice [0,16]\n")
    assert [trial["status"] for trial in tuning.trials] == ["failed", "done"]
    assert "bucket_size_y: 0 is not allowed" in tuning.trials[0]["error"]


def test_the_space_wins_over_settings(tune: Tune, tiny_dataset: dict[str, Any]) -> None:
    tune(by_rate, settings={**tiny_dataset, "learning_rate": 0.5})
    rates = {spec.settings["learning_rate"] for spec in tune.trainings.specs}  # type: ignore[attr-defined]
    assert rates == {0.001, 0.002, 0.003}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tool": "Optuna"}, "tool: 'Optuna' is not allowed"),
        ({"max_evals": 0}, "max_evals: 0 is not allowed"),
        ({"algorithm": "bayes", "tool": "Ray"}, "one at a time"),
        ({"settings": {"bucket_size_y": -1}}, "bucket_size_y: -1 is not allowed"),
    ],
)
def test_what_is_impossible_is_said_before_anything_runs(
    tune: Tune, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ExperimentError, match=said):
        tune(by_rate, **given)
    assert tune.trainings.specs == []  # type: ignore[attr-defined]


def test_other_settings_are_another_search(tune: Tune, tiny_dataset: dict[str, Any]) -> None:
    tune(by_rate, max_evals=1)
    with pytest.raises(ExperimentError, match="holds a search already"):
        tune(by_rate, max_evals=1)
    with pytest.raises(ExperimentError, match="another search: settings was"):
        tune(by_rate, settings={**tiny_dataset, "epochs": 2}, resume=True)


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

    def test_markdown_is_sorted(self, written: dict[str, Path]) -> None:
        lines = written["md"].read_text().splitlines()
        assert len(lines) == 8
        assert lines[2].startswith("| **5** | **0.003")
        assert "**0.0960**" in lines[2]
        assert "failed" in lines[-1]

    def test_result_file_has_recboles_form(self, written: dict[str, Path]) -> None:
        blocks = written["result"].read_text().strip().split("\n\n")
        assert len(blocks) == 5
        assert blocks[0].splitlines() == [
            "learning_rate:0.001, bucket_size_y:16",
            "Valid result:",
            "mrr@10 : 0.016",
            "Test result:",
            "mrr@10 : 0.016",
        ]

    def test_page_tells_the_best_and_the_failed(self, written: dict[str, Path]) -> None:
        text = written["html"].read_text(encoding="utf-8")
        assert "learning_rate = 0.003, bucket_size_y = 32" in text
        assert "failed: broken | it" in text
        assert "plot-course" in text
        assert "plot-parameters" in text

    @pytest.mark.parametrize(
        ("rates", "axis"),
        [
            ([0.0001, 0.001, 0.01], "learning_rate [logarithmic]"),
            ([0.001, 0.002, 0.003], "learning_rate"),
            ([0.0001, 0.01, 0.01], "learning_rate"),  # choices
        ],
    )
    def test_an_axis_suits_the_values(self, rates: list[float], axis: str, tmp_path: Path) -> None:
        trials = [
            _trial(number, {}, {"learning_rate": rate}, {"status": "done", "best_valid_score": 0.1}, True)
            for number, rate in enumerate(rates)
        ]
        tuning = Tuning("Pop", "tiny", ["learning_rate"], trials, True, "MRR@10", tmp_path)
        assert f'"text":"{axis}"' in write_trials(tuning)["html"].read_text(encoding="utf-8")

    @pytest.mark.slow
    @needs_chromium
    def test_a_browser_draws_the_page(self, written: dict[str, Path], tmp_path: Path) -> None:
        drawn = draw(written["html"], tmp_path)
        assert drawn.console == []
        for name, points in (
            ("course", 6),
            ("parameters", 10),
        ):  # five trials and a failed one; two parameters
            plot = drawn.dom[drawn.dom.index(f'id="plot-{name}"') :]
            plot = plot[: plot.index("</script>")]
            assert len(re.findall(r'<path[^>]*class="point[" ]', plot)) == points, name

    def test_nothing_but_failures_can_be_written(self, tune: Tune, tmp_path: Path) -> None:
        tuning = tune(lambda n, s: "no", out=tmp_path / "failures")
        assert tuning.best() is None
        assert "6 failed" in write_trials(tuning)["html"].read_text(encoding="utf-8")
