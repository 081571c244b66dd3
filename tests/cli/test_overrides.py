"""RecBole's overrides on the command line."""

from __future__ import annotations

import sys

import pytest

from recbole_sce.cli.errors import InputError
from recbole_sce.cli.overrides import (
    check_keys,
    parse_overrides,
    spell_out_resume,
    split_files,
    value_in_files,
)
from recbole_sce.utils.arguments import recbole_sees


def test_overrides_are_taken_as_they_are() -> None:
    given = ["--epochs=3", "--load_col={'inter': ['a', 'b']}", "--gpu_id=", "--epochs=3"]
    assert parse_overrides(given) == {"epochs": "3", "load_col": "{'inter': ['a', 'b']}", "gpu_id": ""}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["epochs=3"], "'epochs=3' is neither"),
        (["-e", "3"], "'-e' is neither"),
        (["--=3"], "'--=3' is neither"),
        (["--epochs", "3"], "write --epochs=3, with"),
        (["--epochs", "--topk=3"], "write --epochs=VALUE, with"),
        (["--filter=a=b"], "two equals signs"),
        (["--epochs=3", "--epochs=4"], "--epochs must be given once, got 3 and 4"),
    ],
)
def test_what_recbole_would_drop_is_an_error(arguments: list[str], text: str) -> None:
    with pytest.raises(InputError, match=text):
        parse_overrides(arguments)


def test_resume_alone_means_auto() -> None:
    spelt = ["run", "--resume", "auto"]
    assert spell_out_resume(["run", "--resume"]) == spelt
    assert spell_out_resume(["run", "--resume", "--epochs=3"]) == [*spelt, "--epochs=3"]
    for whole in (["run", "--resume", "x.pth"], ["run", "--resume=x.pth"], spelt, ["run"], []):
        assert spell_out_resume(whole) == whole


def test_misspelt_keys(capsys: pytest.CaptureFixture[str]) -> None:
    known = ["epochs", "bucket_size_y", "hidden_size", "benchmark_filename", "selected_features"]
    check_keys(known, "SASRecSCE", "ml-100k", [])
    assert not capsys.readouterr().err
    for wrong, right in {"epoch": "epochs", "bucket_sise_y": "bucket_size_y", "TOPK": "topk"}.items():
        with pytest.raises(InputError, match=f"{wrong!r} is unknown .* did you mean {right!r}"):
            check_keys([wrong], "SASRecSCE", "ml-100k", [])
    with pytest.raises(InputError, match="did you mean 'num_layers'"):
        check_keys(["n_layers"], "GRU4RecSCE", "ml-100k", [])


def test_keys_of_ones_own_are_passed_on_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    check_keys(["colour"], "SASRecSCE", "ml-100k", [])
    assert capsys.readouterr().err.startswith("warning: configuration key 'colour' is unknown")


def test_keys_of_the_users_files_are_known(tmp_path: pytest.TempPathFactory) -> None:
    file = tmp_path / "mine.yaml"  # type: ignore[operator]
    file.write_text("epoch: 3\nmodel: GRU4Rec\n")
    check_keys(["epoch"], "SASRecSCE", "ml-100k", [str(file)])
    assert value_in_files("model", [str(file)]) == "GRU4Rec"
    assert value_in_files("dataset", [str(file)]) is None


def test_files_are_checked(tmp_path: pytest.TempPathFactory) -> None:
    good, text = tmp_path / "good.yaml", tmp_path / "text.yaml"  # type: ignore[operator]
    good.write_text("epochs: 3\n")
    text.write_text("epochs\n")
    assert split_files([f" {good}  {good} "]) == [str(good)] * 2
    assert split_files(None) == []
    with pytest.raises(InputError, match="key: value"):
        split_files([f"{good} {text}"])
    with pytest.raises(InputError, match=r"none\.yaml cannot be read"):
        split_files(["none.yaml"])


def test_recbole_sees_overrides_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole.config import Config

    monkeypatch.setattr("sys.argv", ["recbole-sce", "run", "-m", "SASRecSCE", "--epochs=5"])
    with recbole_sees({"epochs": "7"}):
        assert sys.argv == ["recbole-sce", "--epochs=7"]
        assert Config("SASRecSCE", "ml-100k")["epochs"] == 7
    assert sys.argv[1:3] == ["run", "-m"]
