"""recbole-sce bench loss: what it measures and prints, and what it refuses."""

from __future__ import annotations

import pytest

from cli.conftest import Call
from recbole_sce.cli import loss_steps


@pytest.mark.slow
def test_it_measures_every_loss_in_a_process_of_its_own(call: Call) -> None:
    outcome = call("bench", "loss", "--cases", "40x1e3", "--width", "8", "--repeats", "1", "--threads", "1")
    assert outcome.code == 0, outcome.err
    rows = [line.split(" | ") for line in outcome.out.splitlines() if line.startswith("| 40 ")]
    assert [row[2] for row in rows] == [one.name for one in loss_steps.CONTENDERS]
    assert all(float(row[3]) > 0 for row in rows)


def test_options_reach_the_measurement(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[loss_steps.Case] = []
    monkeypatch.setattr(loss_steps, "measure_apart", lambda case, *options: measured.append(case))
    outcome = call("bench", "loss", "--cases", "10x20,1e3x1e3", "--max-logits", "9e5", "--dtype", "float64")
    assert outcome.code == 0, outcome.err
    sizes = [(case.states, case.items) for case in measured]
    assert sizes == [(10, 20)] * 5 + [(1000, 1000)] * 3  # the larger one without exact cross-entropy
    assert {case.dtype for case in measured} == {"float64"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cases", "2048"), "--cases must be two numbers such as 2048x1e6, got '2048'"),
        (("--cases", "0x100"), "got '0x100'"),
        (("--dtype", "int8"), "--dtype must be one of float32, float64, bfloat16, float16, got 'int8'"),
        (("--device", "nowhere"), "--device must be a device of this machine, got 'nowhere'"),
        (("--repeats", "0"), "--repeats"),
    ],
)
def test_what_is_wrong_is_named(call: Call, arguments: tuple[str, ...], message: str) -> None:
    outcome = call("bench", "loss", *arguments)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())


def test_help(call: Call) -> None:
    outcome = call("bench", "--help")
    assert outcome.code == 0
    assert "loss" in outcome.out
