"""``recbole-sce compare -m A -m B`` compares B alone, ``run -m A -m B`` trains B: A is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cli.conftest import Call, call  # noqa: F401  (a fixture)

from recbole_sce.cli import app
from recbole_sce.cli.options import split_values
from recbole_sce.experiments import comparison

#: Options that mean a list, by command.
LISTS = {
    "run": {"config_files"},
    "tune": {"config_files"},
    "compare": {"models", "seeds", "losses", "config_files"},
    "recommend": {"user"},
    "bench loss": {"cases"},
}
TINY = (
    "-d",
    "tiny",
    "--data_path=data",
    "--MAX_ITEM_LIST_LENGTH=10",
    "--epochs=1",
    "--load_col={'inter': ['user_id', 'item_id', 'timestamp']}",
)


def commands(group: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*names, name))
        else:
            yield (*names, name), command


OPTIONS = [
    pytest.param(names, option, id=f"{' '.join(names)} {option.opts[0]}")
    for names, command in commands(typer.main.get_command(app))
    for option in command.params
    if option.param_type_name == "option" and option.name != "help"
]


def given_twice(option: Any) -> list[str]:
    """Return arguments that give an option two different values."""
    if option.is_flag:
        return [*option.opts[:1], *option.secondary_opts[:1]]

    return [option.opts[0], "3", option.opts[-1], "4"]


@pytest.mark.parametrize(("names", "option"), OPTIONS)
def test_no_option_drops_a_value(names: tuple[str, ...], option: Any, call: Call, tmp_path: Path) -> None:  # noqa: F811
    if option.multiple:
        assert option.name in LISTS[" ".join(names)]
        return
    assert option.name not in LISTS.get(" ".join(names), ())
    if option.is_flag and not option.secondary_opts:
        return  # there is no other value
    outcome = call(*names, *given_twice(option))
    assert outcome.code == 2
    assert (
        f"error: {'/'.join([*option.opts, *option.secondary_opts])} must be given once, got " in outcome.err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("run", "-m", "SASRec", "--model", "GRU4Rec"),
            "--model/-m must be given once, got SASRec and GRU4Rec",
        ),
        (("run", "--epochs=1", "--epochs=2"), "--epochs must be given once, got 1 and 2"),
        (("tune", "--epochs=1", "--epochs=2"), "--epochs must be given once, got 1 and 2"),
        (("compare", "--Pop.epochs=1", "--Pop.epochs=2"), "--Pop.epochs must be given once, got 1 and 2"),
        (("run", "--resume", "a.pth", "--resume"), "--resume must be given once, got a.pth and auto"),
        (
            ("run", "--json", "a", "--json", "b", "--json", "c"),
            "--json must be given once, got a and b and c",
        ),
    ],
)
def test_the_message_names_option_and_values(arguments: tuple[str, ...], message: str, call: Call) -> None:  # noqa: F811
    outcome = call(*arguments)
    assert outcome.code == 2
    assert message in outcome.err


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tiny_dataset: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What would have been compared: model, loss, seed; each run fails at once."""
    runs: list[tuple[Any, ...]] = []

    def run(spec: Any, folder: Path, progress: Any) -> dict[str, Any]:
        runs.append((spec.model, spec.settings.get("loss_type"), spec.settings["seed"]))
        return {"status": "failed", "error": "not trained here"}

    monkeypatch.setattr(comparison, "run_in_process", run)
    return runs


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "Pop", "-m", "BPR", "--seeds", "1", "--seeds", "2"),
        ("-m", "Pop,BPR", "--seeds", "1,2"),
        ("-m", "Pop, BPR", "--seeds", "1 , 2"),
        ("--models", "Pop", "--model_list", "BPR", "--seeds=1", "--seeds=2"),
    ],
)
def test_lists_are_repeated_or_separated_by_commas(
    arguments: tuple[str, ...],
    call: Call,  # noqa: F811
    runs: list[tuple[Any, ...]],
) -> None:
    call("compare", *arguments, *TINY)
    assert sorted(runs, key=str) == [("BPR", None, 1), ("BPR", None, 2), ("Pop", None, 1), ("Pop", None, 2)]


def test_losses_are_repeated(call: Call, runs: list[tuple[Any, ...]]) -> None:  # noqa: F811
    call("compare", "-m", "SASRecSCE", "--losses", "CE", "--losses", "SCE,BCE", *TINY)
    assert [loss for _, loss, _ in runs] == ["CE", "SCE", "BCE"]


def test_files_of_settings_are_repeated(call: Call, runs: list[tuple[Any, ...]]) -> None:  # noqa: F811
    for seed in (1, 2, 3):
        Path(f"{seed}.yaml").write_text(f"colour{seed}: {seed}\n")
    files = ("--config_files", "1.yaml 2.yaml", "--config_files", "3.yaml")
    outcome = call("compare", "-m", "Pop", *files, "--colour1=5", "--colour2=5", "--colour3=5", *TINY)
    assert "unknown" not in outcome.err  # as a key that no file has would be
    assert runs


def test_split_values() -> None:
    assert split_values(None) == split_values([]) == split_values(["", " , "]) == []
    assert split_values(["a, b", "c"]) == ["a", "b", "c"]
    assert split_values(["a.yaml  b.yaml", "c.yaml"], None) == ["a.yaml", "b.yaml", "c.yaml"]
