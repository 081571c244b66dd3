from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_sce.experiments import Candidate, Event, ExperimentError, compare, comparison, write_report
from recbole_sce.experiments.comparison import run_file
from recbole_sce.experiments.summary import recipes_in_words
from recbole_sce.experiments.tables import write_tables


def nothing_runs(*args: Any) -> Any:
    raise AssertionError("a run was started")


class TestBeforeAnythingRuns:
    @pytest.fixture(autouse=True)
    def _nothing_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(comparison, "run_in_process", nothing_runs)

    @pytest.mark.parametrize(
        ("candidates", "given", "message"),
        [
            ([], {}, "nothing to compare"),
            (["SASRecSCE", "SASRecSCE"], {}, "two candidates are called SASRecSCE"),
            (["a b=Pop", "a_b=BPR"], {}, "two candidates are called"),
            (["SASRecSEC"], {}, r"did you mean .*SASRecSCE"),
            (["Pop"], {"seeds": (1, 1)}, "seeds"),
            (["Pop"], {"seeds": ()}, "seeds"),
            (["FM"], {}, "FM"),
            (["SASRecSCE:BPR"], {}, "loss_type must be .*, got 'BPR'"),
            (["FPMC:CE"], {}, "FPMC has one loss only"),
            (
                ["Pop"],
                {"settings": {"clip_grad_norm": 5}},
                "Pop on tiny: clip_grad_norm must be null or a dict",
            ),
            (
                ["SASRec"],
                {"settings": {"n_heads": 3}},
                "SASRec on tiny: hidden_size must be a multiple of n_h",
            ),
            (["Pop"], {"settings": {"topk": [5]}}, "valid_metric must be recall@5, .* got 'NDCG@10'"),
        ],
    )
    def test_impossible_wishes_are_named(
        self, tiny_dataset: dict[str, Any], candidates: list[str], given: dict[str, Any], message: str
    ) -> None:
        settings = {**tiny_dataset, **given.get("settings", {})}
        given = {key: value for key, value in given.items() if key != "settings"}
        with pytest.raises(ExperimentError, match=message):
            compare(candidates, "tiny", **{"settings": settings, "out": "out", **given})
        assert not Path("out").exists()

    @pytest.mark.parametrize("key", ["MAX_ITEM_LIST_LENGTH", "topk", "user_inter_num_interval"])
    def test_one_protocol_for_all(self, tiny_dataset: dict[str, Any], key: str) -> None:
        own = {"MAX_ITEM_LIST_LENGTH": 7, "topk": [3, 10], "user_inter_num_interval": "[8,inf)"}
        candidates = ["Pop", Candidate("other", "SASRecSCE", settings={key: own[key]})]
        with pytest.raises(ExperimentError, match=f"{key} is .* for Pop and .* for other"):
            compare(candidates, "tiny", settings=tiny_dataset, out="out")

    def test_seen_items_are_ranked_by_all_or_none(self, tiny_dataset: dict[str, Any]) -> None:
        candidates = ["SASRec", Candidate("without", "SASRecSCE", settings={"exclude_seen": True})]
        with pytest.raises(ExperimentError, match="exclude_seen is False for SASRec and True for without"):
            compare(candidates, "tiny", settings=tiny_dataset, out="out")

    def test_missing_data_are_named(self, tiny_dataset: dict[str, Any]) -> None:
        with pytest.raises(ExperimentError, match=r"teeny.*Did you mean tiny"):
            compare(["Pop"], "teeny", settings=tiny_dataset, out="out")


@pytest.mark.parametrize(
    ("settings", "split", "repeatable"),
    [
        ({}, {"LS": "valid_and_test"}, [True, True]),
        ({"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "TO"}}, {"RS": [8, 1, 1]}, [True, True]),
        ({"exclude_seen": "False"}, {"LS": "valid_and_test"}, [True, True]),
        ({"exclude_seen": True}, {"LS": "valid_and_test"}, [False, True]),
    ],
)
def test_general_models_are_split_like_sequential_ones(
    tiny_dataset: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    split: dict[str, Any],
    repeatable: list[bool],
) -> None:
    specs = []

    def run(spec: Any, folder: Path, progress: Any) -> dict[str, Any]:
        specs.append(spec)
        return {"status": "failed", "error": ""}

    monkeypatch.setattr(comparison, "run_in_process", run)
    compare(["Pop", "SASRecSCE"], "tiny", settings={**tiny_dataset, **settings}, out="out")
    assert [spec.settings["eval_args"]["split"] for spec in specs] == [split] * 2
    assert [spec.settings["repeatable"] for spec in specs] == repeatable


def test_losses_multiply_the_plugins_models(
    tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        comparison, "run_in_process", lambda *args: {"status": "failed", "error": "not trained"}
    )
    compared = compare(
        ["SASRecSCE", "x=SASRecSCE:gBCE", "SASRec"],
        "tiny",
        losses=["SCE", "CE"],
        seeds=[1, 2],
        settings=tiny_dataset,
        out="out",
    )
    labels = ["SASRecSCE:SCE", "SASRecSCE:CE", "x", "SASRec"]
    assert [record["label"] for record in compared.records] == [label for label in labels for _ in (1, 2)]
    given = [record["spec"]["settings"].get("loss_type") for record in compared.records]
    assert given[::2] == ["SCE", "CE", "gBCE", None]


@pytest.mark.parametrize(
    ("settings", "recipe"), [({}, "plain"), ({"recipe": "sparse"}, "sparse"), ({"recipe": "auto"}, "auto")]
)
def test_variants_are_compared_with_recipe_plain_unless_told_otherwise(
    tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], recipe: str
) -> None:
    failed = {"status": "failed", "error": "not trained"}
    monkeypatch.setattr(comparison, "run_in_process", lambda *args: failed)
    own = Candidate("own", "SASRecSCE", settings={"recipe": "dense"})
    compared = compare(["SASRecSCE", own, "SASRec"], "tiny", settings={**tiny_dataset, **settings}, out="out")
    assert [record["recipe"] for record in compared.records] == [recipe, "dense", None]
    assert [record["spec"]["settings"].get("recipe") for record in compared.records][:2] == [recipe, "dense"]
    assert recipes_in_words(compared) == f"recipes: SASRecSCE {recipe}, own dense"


def test_a_comparison_says_that_its_recipe_is_plain(
    tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {"status": "failed", "error": "not trained"}
    monkeypatch.setattr(comparison, "run_in_process", lambda *args: failed)
    compared = compare(["SASRecSCE", "SASRec"], "tiny", settings=tiny_dataset, out="out")
    assert "recipe plain, RecBole's own settings" in recipes_in_words(compared)
    write_tables(compared)
    assert "recipe plain" in Path("out/summary.md").read_text(encoding="utf-8")
    assert "plain" in Path("out/results.csv").read_text(encoding="utf-8")


def test_runs_under_other_defaults_are_not_gone_on_with(
    tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of another version of the package may say something else for what nobody has set."""

    def train(spec: Any, folder: Path, progress: Any) -> dict[str, Any]:
        folder.mkdir(parents=True)
        (folder / "users.npz").touch()
        return {"status": "done"}

    monkeypatch.setattr(comparison, "run_in_process", train)
    compare(["SASRecSCE"], "tiny", seeds=[1], settings=tiny_dataset, out="out")
    monkeypatch.setattr(comparison, "run_in_process", nothing_runs)
    said_now = {**tiny_dataset, "n_negatives": 256}  # what the package's file says, too
    assert compare(["SASRecSCE"], "tiny", seeds=[1], settings=said_now, out="out").done()

    said_otherwise = {**tiny_dataset, "clip_grad_norm": None}  # null is said, too
    with pytest.raises(ExperimentError, match=r"clip_grad_norm was not set and is None\."):
        compare(["SASRecSCE"], "tiny", seeds=[1], settings=said_otherwise, out="out")

    of_package = comparison.package_settings
    monkeypatch.setattr(comparison, "package_settings", lambda config: {**of_package(config), "mix_x": False})
    with pytest.raises(ExperimentError, match=r"holds a run of SASRecSCE .*: mix_x was True and is False\."):
        compare(["SASRecSCE"], "tiny", seeds=[1], settings=tiny_dataset, out="out")


@pytest.mark.slow
@pytest.mark.usefixtures("runs_here")
def test_a_comparison_for_real(tiny_dataset: dict[str, Any], tmp_path: Path) -> None:
    """A model, and one that fails; then once more: what is done is kept, what failed is tried again."""
    out, settings = tmp_path / "out", {**tiny_dataset, "epochs": 2, "recipe": "auto"}
    broken = Candidate("broken", "SASRecSCE", settings={"learning_rate": 1e30})
    events: list[Event] = []
    compared = compare(
        ["SASRecSCE", broken], "tiny", seeds=[1], settings=settings, out=out, listener=events.append
    )
    assert [record["status"] for record in compared.records] == ["done", "failed"]
    assert "not finite" in compared.failed()[0]["error"]
    model = compared.records[0]
    assert model["recipe"] == "sparse"
    assert model["package_settings"]["weight_decay"] == 0
    assert {"weight_decay": 0.1, "target_discount": 0.4}.items() <= model["chosen_settings"].items()
    assert [entry["epoch"] for entry in model["curve"]] == [1, 2]
    assert [event.kind for event in events if event.kind != "progress"] == [
        "started",
        "done",
        "started",
        "failed",
    ]
    for record in compared.done():
        values = compared.user_values(record)
        assert len(values["users"]) == 60
        assert set(values) == {"users", *record["metrics"]["test"]}
        for name, value in record["metrics"]["test"].items():  # RecBole rounds to four digits
            assert np.mean(values[name]) == pytest.approx(value, abs=6e-5)
    assert write_report(compared) == out / "report.html"

    def work_or_fail(spec: Any, folder: Path, progress: Any) -> dict[str, Any]:
        assert folder == run_file(out, "broken", 1, "work")
        return {"status": "failed", "error": "again"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "run_in_process", work_or_fail)
        events.clear()
        again = compare(
            ["SASRecSCE", broken],
            "tiny",
            seeds=[1],
            settings=settings,
            out=out,
            listener=events.append,
        )
        assert [event.kind for event in events] == ["skipped", "started", "failed"]
        assert again.done() == json.loads(json.dumps(compared.done()))
        with pytest.raises(ExperimentError, match=r"holds a run of SASRecSCE .*epochs was 2 and is 3"):
            compare(["SASRecSCE"], "tiny", seeds=[1], settings={**settings, "epochs": 3}, out=out)
