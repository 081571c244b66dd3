"""``HyperTuning``: all its searches, its best score and its plot."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recbole.trainer import HyperTuning, hyper_tuning

from recbole_sce.compat import stack

Without = Callable[[Any, str], None]
CHOICES = {"choice": {"a": [1, 2, 3], "b": ["x", "y"]}}


class Objective:
    """Stands for a training; scores are given, or made of the parameters."""

    def __init__(self, scores: list[float] | None = None, bigger: bool = True) -> None:
        self.scores = iter(scores) if scores else None
        self.bigger = bigger
        self.tried: list[dict[str, Any]] = []

    def __call__(self, params: dict[str, Any], config_files: Any) -> dict[str, Any]:
        self.tried.append(params)
        score = params["a"] + (params.get("b") == "y") / 2 if self.scores is None else next(self.scores)
        result = {"ndcg@10": score}
        return {
            "model": "Model",
            "best_valid_score": score,
            "valid_score_bigger": self.bigger,
            "best_valid_result": result,
            "test_result": result,
        }


class TestSearch:
    def test_exhaustive_tries_everything_once(self) -> None:
        objective = Objective()
        tuning = HyperTuning(objective, params_dict=CHOICES, algo="exhaustive")
        tuning.run()
        assert sorted((p["a"], p["b"]) for p in objective.tried) == [(a, b) for a in (1, 2, 3) for b in "xy"]
        assert tuning.best_params == {"a": 3, "b": "y"}
        assert tuning.best_score == 3.5

    def test_exhaustive_fails_without_the_patch(self, without: Without) -> None:
        without(hyper_tuning, "np")
        with pytest.raises(AttributeError, match="integers"):
            HyperTuning(Objective(), params_dict=CHOICES, algo="exhaustive").run()

    @pytest.mark.parametrize("algo", ["random", "bayes"])
    def test_others_try_as_often_as_asked(self, algo: str) -> None:
        objective = Objective()
        space = {**CHOICES, "uniform": {"c": [0.0, 1.0]}}
        tuning = HyperTuning(objective, params_dict=space, algo=algo, max_evals=4, early_stop=10)
        tuning.run()
        assert len(objective.tried) == 4
        assert tuning.best_score == max(p["a"] + (p["b"] == "y") / 2 for p in objective.tried)


class TestZeroScore:
    @staticmethod
    def tuned(scores: list[float], bigger: bool) -> HyperTuning:
        tuning = HyperTuning(Objective(scores, bigger), params_dict=CHOICES)
        for a in range(len(scores)):
            tuning.trial({"a": a})
        return tuning

    @pytest.mark.parametrize(
        ("scores", "bigger", "best"),
        [
            ([0.0, 3.0], False, 0),
            ([2.0, 0.0, 3.0], False, 1),
            ([0.0, -1.0], True, 0),
            ([0.0, 1.0], True, 1),
            ([0.0, -1.0], False, 1),
        ],
    )
    def test_is_a_score(self, scores: list[float], bigger: bool, best: int) -> None:
        tuning = self.tuned(scores, bigger)
        assert tuning.best_params == {"a": best}
        assert tuning.best_score == scores[best]

    def test_is_forgotten_without_the_patch(self, without: Without) -> None:
        without(HyperTuning, "trial")
        assert self.tuned([0.0, 3.0], bigger=False).best_params == {"a": 1}


class TestPlot:
    @pytest.fixture(autouse=True)
    def _no_browser(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(webbrowser, "open", lambda *args, **kwargs: False)

    def test_is_written(self, tmp_path: Path) -> None:
        page = tmp_path / "trials.html"
        HyperTuning(Objective(), params_dict=CHOICES, display_file=str(page)).run()
        assert "Model tuning process" in page.read_text(encoding="utf-8")

    def test_needs_a_name_that_numpy_dropped(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tuning = HyperTuning(Objective(), params_dict=CHOICES, display_file=str(tmp_path / "trials.html"))
        tuning.trial({"a": 1})
        monkeypatch.delattr(np, "str")
        with pytest.raises(AttributeError):
            tuning.plot_hyper()
        assert stack.numpy_names()
        tuning.plot_hyper()


class TestOldHyperopt:
    @pytest.fixture(autouse=True)
    def _without_pkg_resources(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Install a hyperopt that reads its data as releases 0.2 do, and hide pkg_resources."""
        package = tmp_path / "hyperopt"
        package.mkdir()
        (package / "data.txt").write_text("data")
        (package / "__init__.py").write_text(
            "import pkg_resources\nDATA = pkg_resources.resource_string(__name__, 'data.txt')\n"
        )
        (package / "early_stop.py").write_text("def no_progress_loss(trials): return trials\n")
        for name in [name for name in sys.modules if name.split(".")[0] in ("hyperopt", "pkg_resources")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(sys, "meta_path", [_Hide("pkg_resources"), *sys.meta_path])

    def test_is_imported(self) -> None:
        HyperTuning(Objective(), space={"a": 1}, algo=lambda *args: [])
        assert sys.modules["hyperopt"].DATA == b"data"
        assert "pkg_resources" not in sys.modules

    def test_is_not_without_the_patch(self, without: Without) -> None:
        without(HyperTuning, "__init__")
        with pytest.raises(ModuleNotFoundError, match="pkg_resources"):
            HyperTuning(Objective(), space={"a": 1}, algo=lambda *args: [])


def test_without_hyperopt_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hyperopt", None)
    with pytest.raises(ModuleNotFoundError, match="pip install 'hyperopt"):
        HyperTuning(Objective(), space={"a": 1})


class _Hide:
    """An import hook that finds no module of one name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
