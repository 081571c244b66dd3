from __future__ import annotations

import math
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna", reason="searching needs the extra recbole_sce[tune]")

from recbole_sce.experiments.space import Space, read_space  # noqa: E402
from recbole_sce.experiments.spec import ExperimentError  # noqa: E402


def space(folder: Path, text: str) -> Space:
    file = folder / "space.hyper"
    file.write_text(text)
    return read_space(file)


def test_the_forms_of_recbole_are_read(tmp_path: Path) -> None:
    text = "# comment\n\n"
    text += "lr loguniform -8,-5\nd uniform 0, 0.5\nq quniform 16,128,16\nn choice [1, 2,'x', None]\n"
    read = space(tmp_path, text)
    assert read.names == ["lr", "d", "q", "n"]
    assert read.parameters[0].ends() == [math.exp(-8), math.exp(-5)]
    assert read.parameters[1].values == (0, 0.5)
    assert read.parameters[2].options() == list(range(16, 129, 16))
    assert read.parameters[3].options() == [1, 2, "x", None]


def test_draws_lie_in_the_space(tmp_path: Path) -> None:
    read = space(
        tmp_path, "lr loguniform -8,-5\nd uniform 0,0.5\nq quniform 16.0,130.0,16.0\np quniform 0.1,0.5,0.1\n"
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(25):
        drawn = read.suggest(study.ask())
        assert math.exp(-8) <= drawn["lr"] <= math.exp(-5)
        assert 0 <= drawn["d"] <= 0.5
        assert drawn["q"] in range(16, 129, 16)
        assert isinstance(drawn["q"], int)
        assert drawn["p"] in (0.1, 0.2, 0.3, 0.4, 0.5)


def test_choices_of_lists_come_back_as_lists(tmp_path: Path) -> None:
    read = space(tmp_path, "sizes choice [[64],[128,64]]\n")
    assert read.grid() == {"sizes": ["[64]", "[128, 64]"]}
    assert read.suggest(optuna.trial.FixedTrial({"sizes": "[128, 64]"})) == {"sizes": [128, 64]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name a parameter"),
        ("a normal 0,1\n", "line 1: a must be of the type choice, uniform, quniform, loguniform, got normal"),
        ("a choice [1,\n", r"a must be a list of values such as \[1,2\], got \[1,"),
        ("a choice 5\n", r"a must be a list of values such as \[1,2\], got 5"),
        ("a choice []\n", "a must be a list of values"),
        ("a choice [print(1)]\n", "a must be a list of values"),
        ("a uniform 1,0\n", "a must be two numbers LOW,HIGH with LOW < HIGH, got 1,0"),
        ("a uniform 0,x\n", "a must be two numbers"),
        ("a uniform 0,inf\n", "a must be two numbers"),
        ("a loguniform 1\n", "a must be two numbers LOW,HIGH with LOW < HIGH, the natural logarithms"),
        ("a quniform 1,5\n", "a must be three numbers"),
        ("a quniform 1,5,0\n", "a must be three numbers"),
        ("a quniform 1,5,9\n", "a must be three numbers"),
        ("a choice [1]\nb\n", "line 2: a line must be 'name type values', got 'b'"),
        ("a choice [1]\na choice [2]\n", "line 2: a must stand on one line, got a second one"),
    ],
)
def test_what_cannot_be_searched_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        space(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"none\.hyper cannot be read"):
        read_space(tmp_path / "none.hyper")


def test_only_what_can_be_counted_is_a_grid(tmp_path: Path) -> None:
    assert space(tmp_path, "a quniform 1,3,1\n").grid() == {"a": [1, 2, 3]}
    with pytest.raises(ExperimentError, match="lr must be a choice or quniform to be searched exhaustively"):
        space(tmp_path, "lr loguniform -8,-5\n").grid()
