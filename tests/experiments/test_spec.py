from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_sce.experiments.spec import (
    Candidate,
    ExperimentError,
    RunSpec,
    changes,
    make_spec,
    package_settings,
    read_files,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SASRec", ("SASRec", "SASRec", None)),
        ("SASRecSCE:CE-", ("SASRecSCE:CE-", "SASRecSCE", "CE-")),
        (" wide=SASRecSCE:gBCE ", ("wide", "SASRecSCE", "gBCE")),
        ("a b=Pop", ("a b", "Pop", None)),
    ],
)
def test_a_candidate_is_read(text: str, expected: tuple[Any, ...]) -> None:
    one = Candidate.parse(text)
    assert (one.label, one.model, one.loss) == expected


@pytest.mark.parametrize("text", ["", "SASRec:", "SASRec:softmax", "=SASRec", "SAS Rec"])
def test_what_is_no_candidate_is_refused(text: str) -> None:
    with pytest.raises(ExperimentError, match="is not of the form"):
        Candidate.parse(text)


class TestMakeSpec:
    def test_softmax_models_get_no_negatives(self, tiny_dataset: dict[str, Any]) -> None:
        spec, config = make_spec("SASRec", "tiny", tiny_dataset)
        assert spec.settings["train_neg_sample_args"] is None
        assert config["train_neg_sample_args"]["distribution"] == "none"

    @pytest.mark.parametrize(("model", "own"), [("SASRec", {"loss_type": "BPR"}), ("BPR", {}), ("FPMC", {})])
    def test_pairwise_models_keep_theirs(
        self, tiny_dataset: dict[str, Any], model: str, own: dict[str, Any]
    ) -> None:
        _, config = make_spec(model, "tiny", {**tiny_dataset, **own})
        assert config["train_neg_sample_args"]["distribution"] == "uniform"

    def test_the_users_negatives_win(self, tiny_dataset: dict[str, Any]) -> None:
        with pytest.raises(ExperimentError, match="train_neg_sample_args"):
            make_spec(
                "SASRec", "tiny", {**tiny_dataset, "train_neg_sample_args": {"distribution": "uniform"}}
            )

    def test_data_path_does_not_depend_on_the_folder(self, tiny_dataset: dict[str, Any]) -> None:
        spec, _ = make_spec("Pop", "tiny", {**tiny_dataset, "data_path": "data"})
        assert spec.settings["data_path"] == os.path.abspath("data")

    def test_the_callers_arguments_are_not_read(
        self, tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.argv", ["recbole-sce", "--epochs=77", "--models=a", "--models=b"])
        _, config = make_spec("Pop", "tiny", tiny_dataset)
        assert config["epochs"] == 1
        assert sys.argv[1] == "--epochs=77"

    def test_an_unknown_model_is_named_with_a_suggestion(self) -> None:
        with pytest.raises(ExperimentError, match=r"did you mean .*SASRecSCE"):
            make_spec("SASRecSEC", "tiny", {})

    def test_an_impossible_setting_is_named(self, tiny_dataset: dict[str, Any]) -> None:
        with pytest.raises(ExperimentError, match=r"bucket_size_y must be .*, got 0"):
            make_spec("SASRecSCE", "tiny", {**tiny_dataset, "bucket_size_y": 0})

    def test_settings_must_be_plain(self, tiny_dataset: dict[str, Any]) -> None:
        with pytest.raises(ExperimentError, match="plain data"):
            make_spec("Pop", "tiny", {**tiny_dataset, "epochs": object()})

    def test_the_callers_settings_stay(self, tiny_dataset: dict[str, Any]) -> None:
        before = dict(tiny_dataset)
        make_spec("SASRec", "tiny", tiny_dataset)
        assert tiny_dataset == before

    def test_a_class_of_the_main_program_is_refused(
        self, tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from recbole_sce import SASRecSCE

        monkeypatch.setattr(SASRecSCE, "__module__", "__main__")
        with pytest.raises(ExperimentError, match="into a module of its own"):
            make_spec("SASRecSCE", "tiny", tiny_dataset)


def test_the_identity_is_what_files_say_not_where_they_are(tmp_path: Path) -> None:
    one, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    one.write_text("epochs: 3\n")
    other.write_text("epochs: 3\n")
    specs = [RunSpec("Pop", "tiny", {"seed": 1}, (str(file),), paths=(str(file),)) for file in (one, other)]
    assert specs[0].identity() == specs[1].identity()
    other.write_text("epochs: 4\n")
    assert specs[0].identity() != specs[1].identity()
    assert RunSpec.from_json(specs[0].to_json()) == specs[0]


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), ("a: [", "is not YAML"), ("- a", "key: value")]
)
def test_bad_files_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "settings.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ExperimentError, match=message):
        read_files([str(file)])


def test_changes_are_of_what_is_said_not_of_how() -> None:
    before = {"eval_args": {"mode": "full", "order": "TO"}, "epochs": 1, "seed": 1}
    assert changes(before, {"seed": 1, "epochs": 1.0, "eval_args": {"order": "TO", "mode": "full"}}) == []
    assert changes(before, {**before, "epochs": 2, "topk": None}) == [
        "epochs was 1 and is 2",
        "topk was not set and is None",
    ]
    assert changes({"topk": None}, {}) == ["topk was None and is not set"]


def test_what_the_package_sets_is_told_as_it_is_in_force(tiny_dataset: dict[str, Any]) -> None:
    _, config = make_spec("BERT4RecSCE", "tiny", {**tiny_dataset, "bucket_alpha": 3.0})
    settings = package_settings(config)
    assert settings["bucket_alpha"] == 3.0
    assert settings["mix_x"] is True
    assert settings["transform"] is None  # of the model's own file
    assert settings["train_batch_positions"] == 2048  # of the recipe
    assert "hidden_size" not in settings  # RecBole's
    assert "eval_memory_mb" not in settings  # decides about no figure
    assert package_settings(make_spec("SASRec", "tiny", tiny_dataset)[1]) == {}
