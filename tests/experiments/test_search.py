from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hyperopt") is None, reason="searching needs the extra recbole_sce[hyperopt]"
)

from recbole_sce.experiments.search import Search  # noqa: E402
from recbole_sce.experiments.spec import ExperimentError  # noqa: E402

CHOICES = "a choice [1,2,3]\nb choice ['x','y']\nc choice [0.1,1e-5]\n"
DRAWN = "lr loguniform -8,-5\nd uniform 0,0.5\nq quniform 16,128,16\nn choice [1,2,3]\n"


def search(folder: Path, space: str, algorithm: str, seed: int = 0) -> Search:
    file = folder / "space.hyper"
    file.write_text(space)
    return Search(file, algorithm, seed)


def loss(params: dict[str, Any]) -> float:
    return float(params["d"] + abs(params["n"] - 2))


def history(found: Search, count: int, start: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Go through ``count`` trials, the fourth of which fails."""
    trials = [dict(trial) for trial in start or []]
    for number in range(len(trials), count):
        values = found.values(number, trials)
        score = None if number == 3 else loss(found.parameters(values))
        trials.append({"trial": number, "values": values, "loss": score})
    return trials


def test_exhaustive_tries_each_combination_once_in_order(tmp_path: Path) -> None:
    found = search(tmp_path, CHOICES, "exhaustive")
    assert found.size == 12
    tried = [found.parameters(found.values(number, [])) for number in range(12)]
    assert [tuple(one.values()) for one in tried] == list(itertools.product([1, 2, 3], "xy", [0.1, 1e-5]))
    assert list(tried[0]) == found.names == ["a", "b", "c"]


@pytest.mark.parametrize("algorithm", ["random", "bayes"])
def test_draws_lie_in_the_space(tmp_path: Path, algorithm: str) -> None:
    found = search(tmp_path, DRAWN, algorithm)
    assert found.size is None
    tried = [found.parameters(trial["values"]) for trial in history(found, 25)]
    for one in tried:
        assert 0.0003 < one["lr"] < 0.007
        assert 0 <= one["d"] <= 0.5
        assert one["q"] in range(16, 129, 16)
        assert one["n"] in (1, 2, 3)
    assert len({one["lr"] for one in tried}) == 25


@pytest.mark.parametrize("algorithm", ["random", "bayes"])
def test_an_interrupted_search_goes_on_as_if_nothing_had_been(tmp_path: Path, algorithm: str) -> None:
    whole = history(search(tmp_path, DRAWN, algorithm), 24)
    part = history(search(tmp_path, DRAWN, algorithm), 22)
    assert history(search(tmp_path, DRAWN, algorithm), 24, start=part) == whole
    assert history(search(tmp_path, DRAWN, algorithm, seed=1), 24) != whole


def test_bayes_learns(tmp_path: Path) -> None:
    """After the 20 random trials of hyperopt it looks where the loss was small."""
    found = search(tmp_path, DRAWN, "bayes")
    losses = [loss(found.parameters(trial["values"])) for trial in history(found, 45)]
    assert sum(losses[25:]) / 20 < sum(losses[:20]) / 20


@pytest.mark.parametrize(
    ("space", "algorithm", "said"),
    [
        (DRAWN, "exhaustive", "lr, d, q cannot be searched exhaustively"),
        (CHOICES, "grid", "algorithm: 'grid' is not allowed; exhaustive, random, bayes are"),
        ("", "random", "names no parameter"),
        ("a normal 0,1\n", "random", "Illegal param type"),
        ("a choice [1,\n", "random", r"'\[1,' is no plain value"),
        ("a choice 5\n", "random", "a value cannot be read"),
    ],
)
def test_what_cannot_be_searched_is_named(tmp_path: Path, space: str, algorithm: str, said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        search(tmp_path, space, algorithm)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"none\.hyper cannot be read"):
        Search(tmp_path / "none.hyper", "random", 0)
