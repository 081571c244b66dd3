"""The benchmark of quality: rows, their commands, the file, the page; and a tiny run from end to end."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from harness import pictures, quality
from recbole.config import Config

import recbole_sce
from recbole_sce.experiments import Event, comparison
from tests.experiments.conftest import make_record

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results" / "quality.csv"
MACHINE = {
    "processor": "a processor",
    "gpu": None,
    "cores": 2,
    "threads": 1,
    "python": "3",
    "torch": "2",
    "recbole": "1.2.1",
    "recbole_sce": "0",
}


def record_of(label: str, seed: int, ndcg: float, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    record = make_record(label, seed, ndcg, machine=MACHINE)
    record["metrics"]["test"] |= {"recall@10": 2 * ndcg, "itemcoverage@10": 0.5}
    record["seconds"]["training_cpu"] = 8.0
    for number, entry in enumerate(record["curve"], 1):
        entry["training_cpu_seconds"] = 2.0 * number
    record["epochs_allowed"] = (settings or {}).get("epochs", 3)
    record["spec"] |= {"dataset": "tiny", "settings": {"epochs": 3, "seed": seed, **(settings or {})}}
    return record


def rows_of(*records: dict[str, Any]) -> list[quality.Row]:
    return [quality.row_of("tiny", record) for record in records]


def texts_of(picture: Path) -> set[str | None]:
    """Return the texts of an SVG."""
    root = ElementTree.parse(picture).getroot()
    return {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}


def planned(
    models: list[Any], dataset: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    """Return what compare knows of each run before it trains."""
    started: list[dict[str, Any]] = []

    def listen(event: Event) -> None:
        if event.kind == "started":
            started.append(dict(event.detail))

    def run(spec: Any, folder: Path, progress: Any) -> dict[str, Any]:
        return {"status": "failed", "error": "not trained here"}

    monkeypatch.setattr(comparison, "run_in_process", run)
    monkeypatch.setattr(comparison, "_check_data", lambda config: None)
    recbole_sce.experiments.compare(models, dataset, settings=settings, out="planned", listener=listen)
    return started


class TestRow:
    def test_seconds_until_nearly_there(self) -> None:
        curve = [{"score": score, "training_seconds": n} for n, score in enumerate((0.5, 0.94, 0.95, 1.0))]
        entry = quality.nearly_there(curve, bigger=True)
        assert entry is not None
        assert entry["training_seconds"] == 2
        assert quality.nearly_there([], bigger=True) is None

    def test_its_figures_are_the_records(self) -> None:
        (row,) = rows_of(record_of("SASRecSCE:SCE", 5, 0.0625))
        assert (row["ndcg@10"], row["recall@10"], row["seed"]) == ("0.0625", "0.125", "5")
        assert (row["training_seconds"], row["seconds_to_95"]) == ("10", "10")
        assert row["training_cpu_seconds"] == "8"
        assert (row["epochs"], row["epochs_allowed"]) == ("3", "3")
        assert row["device_mib"] == row["gpu"] == ""

    def test_its_learning_curve_is_kept(self) -> None:
        record = record_of("a", 1, 0.1)
        scores = {59.6: 0.01, 130.0: 0.03, 200.0: 0.02}
        record["curve"] = [{"score": s, "training_cpu_seconds": at} for at, s in scores.items()]
        (row,) = rows_of(record)
        assert row["curve"] == "60:0.01 130:0.03 200:0.02"
        best = [quality.best_within(row, seconds) for seconds in (59, 60, 199, 200, 201)]
        assert best == [0.0, 0.01, 0.03, 0.03, None]  # it used all of its epochs: nobody knows what follows
        assert quality.best_within({**row, "epochs_allowed": "9"}, 201) == 0.03  # it stopped by itself
        assert quality.best_within({**row, "curve": ""}, 60) is None

    @pytest.mark.parametrize("model", ["SASRecSCE", "SASRec", "Pop"])
    def test_its_command_has_all_that_decides(
        self, model: str, tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The settings of a run that compare would make come back from the command."""
        settings = {**tiny_dataset, **quality.SETTINGS, "learning_rate": "0.002"}
        (record,) = planned(
            [f"CE-={model}:CE-" if model.endswith("SCE") else model], "tiny", settings, monkeypatch
        )
        words = shlex.split(quality.command_of("tiny", record))
        assert words[:6] == ["recbole-sce", "run", "--model", model, "--dataset", "tiny"]
        monkeypatch.setattr("sys.argv", ["x", *words[6:]])
        by_command = Config(model, "tiny")
        monkeypatch.setattr("sys.argv", ["x"])
        meant = Config(model, "tiny", config_dict=dict(record["spec"]["settings"]))
        keys = set(meant.final_config_dict) - {"data_path", "show_progress"}
        assert {key: by_command[key] for key in keys} == {key: meant[key] for key in keys}
        assert by_command["learning_rate"] == 0.002

    def test_its_command_says_what_the_package_sets_itself(
        self, tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A later version may set it otherwise; the command is of the run."""
        (record,) = planned(["SASRecSCE"], "tiny", {**tiny_dataset, "bucket_alpha": 3.0}, monkeypatch)
        words = shlex.split(quality.command_of("tiny", record))
        assert {"--bucket_alpha=3.0", "--mix_x=True", "--complete_softmax=True"} < set(words)
        assert not any(word.startswith(("--n_buckets", "--resume")) for word in words)


class TestFile:
    def test_a_run_takes_the_place_of_its_older_self(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "quality.csv"
        assert quality.read_rows(path) == []
        old = rows_of(record_of("b", 1, 0.1), record_of("a", 10, 0.2), record_of("a", 9, 0.3))
        quality.write_rows(path, quality.merged([], old))
        quality.write_rows(path, quality.merged(quality.read_rows(path), rows_of(record_of("b", 1, 0.4))))
        kept = [(row["label"], row["seed"], row["ndcg@10"]) for row in quality.read_rows(path)]
        assert kept == [("a", "9", "0.3"), ("a", "10", "0.2"), ("b", "1", "0.4")]
        assert list(path.parent.iterdir()) == [path]

    def test_a_label_stands_for_one_setting(self) -> None:
        rows = rows_of(record_of("a", 1, 0.1), record_of("a", 2, 0.1, {"bucket_size_y": 64}))
        with pytest.raises(quality.QualityError, match=r"(?s)a on tiny .* another label.*bucket_size_y=64"):
            quality.merged([], rows)

    def test_a_label_stands_for_one_choice_that_the_data_made(self) -> None:
        first, second = (record_of("a", seed, 0.1) for seed in (1, 2))
        first["chosen_settings"], second["chosen_settings"] = ({"p": p} for p in (0.5, 0.2))
        with pytest.raises(quality.QualityError, match=r"(?s)a on tiny .*label:\n  --p=0.5\n  --p=0.2"):
            quality.merged([], rows_of(first, second))
        (planned_row,) = rows_of(second)
        del planned_row["chosen"]  # what is chosen is not known before data are read
        assert len(quality.merged(rows_of(first), [planned_row])) == 2

    def test_the_benchmark_trains_what_the_committed_rows_were(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What both commands say is the same; what was null has got a value since."""
        monkeypatch.chdir(tmp_path)
        rows = {(row["dataset"], row["label"]): row for row in quality.read_rows(COMMITTED)}
        compared = 0
        for dataset in quality.DATASETS:
            settings = {**quality.SETTINGS, **quality.SETTINGS_OF[dataset]}
            candidates = [quality.candidate(text, dataset, {}) for text in quality.MODELS]
            for record in planned(candidates, dataset, settings, monkeypatch):
                row = rows.get((dataset, record["label"]))
                if row is not None:
                    before, now = (
                        {word for word in shlex.split(command) if not word.startswith("--seed=")}
                        for command in (row["command"], quality.command_of(dataset, record))
                    )
                    new = {"--bucket_size_y=256", "--n_outside=2048"}
                    assert now - new <= before
                    compared += 1
        assert compared >= 7

    def test_collects_what_compare_has_finished(self, tmp_path: Path) -> None:
        runs = tmp_path / "study" / "runs"
        runs.mkdir(parents=True)
        (runs / "a-seed1.json").write_text(json.dumps(record_of("a", 1, 0.25)))
        np.savez(runs / "a-seed1.npz", **{"ndcg@10": np.array([0.0, 0.5, 0.5, 0.0])})
        (runs / "a-seed2.json").write_text(json.dumps({"status": "failed"}))
        target = tmp_path / "q.csv"
        assert quality.main(["collect", str(tmp_path / "study"), "--csv", str(target)]) == 0
        (row,) = quality.read_rows(target)
        assert (row["dataset"], row["ndcg@10"]) == ("tiny", "0.25")
        assert float(row[quality.ERROR]) == pytest.approx(0.25 / math.sqrt(3), rel=1e-4)

    def test_a_folder_without_runs_is_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            quality.main(["collect", str(tmp_path), "--csv", str(tmp_path / "q.csv")])
        assert "it has no runs" in capsys.readouterr().err


class TestPage:
    @pytest.fixture
    def page(self, tmp_path: Path) -> str:
        rows = rows_of(
            record_of("SCE-64-rows", 1, 0.1),
            record_of("SCE-64-rows", 2, 0.2),
            {**record_of("CE & more", 1, 0.16, {"epochs": 300}), "chosen_settings": {"b": 0.5, "a": None}},
        )
        quality.write_rows(tmp_path / "q.csv", rows)
        path = tmp_path / "quality.md"
        path.write_text("# By hand\n<!-- figures: begin -->old<!-- figures: end -->\nVerdict\n")
        for _ in range(2):
            assert quality.main(["render", "--csv", str(tmp_path / "q.csv"), "--page", str(path)]) == 0
        return path.read_text()

    def test_means_deviations_and_seeds(self, page: str) -> None:
        assert "| SCE-64-rows | 1, 2 | **0.1500 ± 0.0707** | 0.3000 ± 0.1414 |" in page
        assert "| CE & more | 1 | 0.1600 | 0.3200 |" in page  # one seed is not the best of two

    def test_three_seeds_are_enough_to_be_the_best(self, tmp_path: Path) -> None:
        scores = {"one": [0.9], "three": [0.3, 0.3, 0.3], "four": [0.2, 0.2, 0.2, 0.2]}
        records = [record_of(name, n, x) for name, own in scores.items() for n, x in enumerate(own, 1)]
        quality.render(rows_of(*records), tmp_path / "page.md")
        assert re.findall(r"\| (\w+) \| [\d, ]+ \| \*\*", (tmp_path / "page.md").read_text()) == ["three"]

    def test_a_run_that_did_not_end_by_itself_is_marked(self, page: str) -> None:
        marked = {line.split(" | ")[0]: "(all)" in line for line in page.splitlines() if " | " in line}
        assert marked["| SCE-64-rows"]
        assert not marked["| CE & more"]

    def test_what_was_written_by_hand_stays(self, page: str) -> None:
        assert page.startswith("# By hand\n")
        assert page.endswith("<!-- figures: end -->\nVerdict\n")
        assert "old" not in page

    def test_commands_and_machine_are_told(self, page: str) -> None:
        assert page.count("recbole-sce run --model") == 2
        assert page.count(" --epochs=300 --seed=1 --a=None --b=0.5\n") == 1  # with what the data chose
        assert page.count("</summary>\n\n```\nrecbole-sce run") == page.count("\n```\n\n</details>\n") == 1
        assert "a processor, 1 of 2 cores; Python 3, torch 2, recbole 1.2.1" in page

    @pytest.mark.parametrize(
        ("name", "heading"), [("memory", "test NDCG@10"), ("time", "validation NDCG@10")]
    )
    def test_pictures_show_the_defaults(self, page: str, tmp_path: Path, name: str, heading: str) -> None:
        assert f"](quality-{name}.svg)" in page
        assert {"tiny", "SASRecSCE, 64 rows", heading} <= texts_of(tmp_path / f"quality-{name}.svg")
        assert "CE & more" not in texts_of(tmp_path / f"quality-{name}.svg")

    def test_scores_are_told_at_equal_times(self, tmp_path: Path) -> None:
        rows = rows_of(*(record_of(label, seed, 0.1) for label in "abc" for seed in (1, 2)))
        curves = {"a": ("50:0.01 300:0.03", "50:0.03 300:0.02"), "b": ("50:0.02 90:0.05", "50:0.02 300:0.04")}
        for row in rows:
            row["curve"] = curves.get(row["label"], ("", ""))[int(row["seed"]) - 1]
        page = tmp_path / "page.md"
        quality.render(rows, page)
        lines = [
            line for line in page.read_text().splitlines() if line.startswith(("| validation", "| a", "| b"))
        ]
        times = " | ".join(map(str, quality.TIMES))
        never = " | -" * (len(quality.TIMES) - 3)
        assert lines[-3] == f"| validation NDCG@10 within processor seconds | seeds | {times} |"
        assert lines[-2] == f"| a | 1, 2 | 0.0200 | 0.0200 | 0.0200{never} |"
        assert lines[-1] == f"| b | 1, 2 | 0.0200 | - | -{never} |"  # one of both was not trained that long

    def test_rows_of_before_learning_curves_were_kept_stay(self, tmp_path: Path) -> None:
        old, new = rows_of(record_of("a", 1, 0.1), record_of("a", 2, 0.1))
        del old["curve"]
        quality.write_rows(tmp_path / "rows.csv", [old, new])
        assert quality.read_rows(tmp_path / "rows.csv") == [{**old, "curve": ""}, new]

    def test_nothing_is_written_unless_the_page_has_its_marks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        quality.write_rows(Path("q.csv"), rows_of(record_of("SCE", 1, 0.1)))
        Path("quality.md").write_text("By hand")
        before = {file.name: file.read_text() for file in tmp_path.iterdir()}
        with pytest.raises(SystemExit):
            quality.main(["render", "--csv", "q.csv", "--page", "quality.md"])
        assert "figures: begin" in capsys.readouterr().err
        assert {file.name: file.read_text() for file in tmp_path.iterdir()} == before

    def test_no_rows_are_no_page(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            quality.main(["render", "--csv", str(tmp_path / "typo.csv"), "--page", str(tmp_path / "page.md")])
        assert "no rows" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_the_committed_pages_are_of_the_committed_rows(self, tmp_path: Path) -> None:
        rows = quality.read_rows(COMMITTED)
        committed = {path.name: path for path in (COMMITTED.parents[2] / "docs" / "results").glob("quality*")}
        shutil.copy(committed["quality.md"], tmp_path)
        quality.render(rows, tmp_path / "quality.md")
        assert {file.name for file in tmp_path.iterdir()} == set(committed)
        for name, path in committed.items():
            if path.suffix == ".svg":  # whose outlines depend on matplotlib's version
                assert texts_of(tmp_path / name) == texts_of(path)
            else:
                assert (tmp_path / name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


Points = list[tuple[float, float]]


def panel(paths: dict[str, list[Points]]) -> Any:
    """Return the only panel of a picture."""
    (axes,) = pictures.panels({"tiny": paths}, "cost", "quality").axes
    return axes


class TestPictures:
    def test_the_first_label_is_on_top(self) -> None:
        lines = panel({"a": [[(10, 0.1)]], "b": [[(1000, 0.2)]], "unknown": []}).lines
        (first,) = [line for line in lines if line.get_label() == "a"]
        (second,) = [line for line in lines if line.get_label() == "b"]
        assert len(lines) == 2
        assert first.get_zorder() > second.get_zorder()
        assert first.get_color() != second.get_color()

    def test_an_axis_says_that_it_is_logarithmic(self) -> None:
        far, near = (panel({"a": [[(10, 0.1), (end, 0.2)]]}) for end in (1000, 20))
        assert (far.get_xlabel(), far.get_xscale()) == ("cost, logarithmic", "log")
        assert (near.get_xlabel(), near.get_xscale()) == ("cost", "linear")
        assert near.get_xlim()[0] == near.get_ylim()[0] == far.get_ylim()[0] == 0

    def test_a_curve_goes_through_its_points_and_is_marked_at_its_end(self) -> None:
        curves: list[Points] = [[(10, 0.1), (20, 0.3), (30, 0.2)], [(10, 0.2)]]
        lines = panel({"a": curves}).lines
        assert [list(map(tuple, line.get_xydata())) for line in lines] == curves
        assert [line.get_markevery() for line in lines] == [[-1], [-1]]

    def test_a_label_has_one_colour_in_all_panels(self) -> None:
        paths = {name: {"a": [[(1, 1)]], name: [[(2, 1)]]} for name in "bcdef"}
        figure = pictures.panels(paths, "cost", "quality")  # type: ignore[arg-type]
        colours = {(line.get_label(), line.get_color()) for axes in figure.axes for line in axes.lines}
        assert len(figure.axes) == 5
        assert len(colours) == len({colour for _, colour in colours}) == 6

    def test_labels_stand_in_their_order_whatever_was_run_first(self) -> None:
        paths = {"first": {"a": [], "b": [], "c": [[(1, 1)]]}, "second": {"a": [[(1, 1)]], "b": [], "c": []}}
        (legend,) = pictures.panels(paths, "cost", "quality").legends  # type: ignore[arg-type]
        assert [text.get_text() for text in legend.get_texts()] == ["a", "c"]

    def test_a_file_depends_on_the_figures_alone(self) -> None:
        first, second = (
            pictures.svg(pictures.panels({"tiny": {"a": [[(1, 2), (2, 3)]]}}, "cost", "quality"))
            for _ in range(2)
        )
        assert first == second

    def test_nothing_is_no_error(self) -> None:
        for curves in ({"tiny": {}}, {}):
            ElementTree.fromstring(pictures.svg(pictures.panels(curves, "cost", "quality")))  # type: ignore[arg-type]


class TestRun:
    def test_the_whole_matrix_is_planned(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_dataset: dict[str, Any]
    ) -> None:
        asked = []

        def compare(models: Any, dataset: str, *, settings: Any, listener: Any, **given: Any) -> None:
            asked.append((dataset, list(models), given["seeds"], settings["epochs"]))
            assert not any(candidate.settings.get("epochs") for candidate in models)  # --epochs is for all
            assert ("load_col" in settings) == (dataset in ("s3rec-yelp", "ciao"))  # others have files
            listener(Event("done", 1, 1, "SASRec", 1, record_of("SASRec", 1, 0.1)))

        monkeypatch.setattr(quality, "compare", compare)
        assert quality.main(["run", "--seeds", "1", "2", "--epochs=7", "--csv", "q.csv"]) == 0
        assert [dataset for dataset, *_ in asked] == list(quality.DATASETS)
        assert [candidate.label for candidate in asked[0][1]][-3:] == ["SASRec", "GRU4Rec", "BERT4Rec"]
        assert len(asked[0][1]) == len(quality.MODELS)
        assert asked[0][2:] == ([1, 2], "7")
        assert len(quality.MODELS) == 2 * 5 + 3
        assert {row["dataset"] for row in quality.read_rows(Path("q.csv"))} == set(quality.DATASETS)

    @pytest.mark.parametrize("arguments", [["run", "epochs=3"], ["render", "--epochs=3"]])
    def test_what_is_no_setting_is_refused(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            quality.main(arguments)
        assert "is neither an option nor a setting" in capsys.readouterr().err

    def test_a_model_nobody_knows_is_named(
        self, tiny_dataset: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            quality.main(["run", "--models", "SASRecSEC", "--datasets", "tiny", "--data-path", "data"])
        assert "SASRecSCE" in capsys.readouterr().err

    def test_models_of_recbole_train_for_epochs_of_their_own(self) -> None:
        own = quality.candidate("SASRec", "s3rec-yelp", {})
        assert own.settings == quality.SETTINGS_OF_RECBOLES["s3rec-yelp"]
        assert quality.candidate("SASRec", "s3rec-yelp", {"epochs": "2"}).settings == {}
        assert quality.candidate("SASRecSCE", "s3rec-yelp", {}).settings == {"recipe": "auto"}

    def test_a_label_of_other_settings_is_refused_before_training(
        self,
        tiny_dataset: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(comparison, "run_in_process", None)  # nothing may be trained
        kept = rows_of(record_of("SCE", 1, 0.1, {"bucket_size_y": 64}))
        quality.write_rows(Path("q.csv"), kept)
        arguments = ["run", "--models", "SCE=SASRecSCE:SCE", "--datasets", "tiny"]
        with pytest.raises(SystemExit):
            quality.main([*arguments, "--csv", "q.csv", "--data-path", "data", "--seeds", "2"])
        assert "SCE on tiny would stand for two settings" in " ".join(capsys.readouterr().err.split())
        assert quality.read_rows(Path("q.csv")) == kept

    @pytest.mark.slow
    def test_from_a_run_to_the_page(
        self,
        tiny_dataset: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        arguments = ["run", "--models", "SASRecSCE:SCE", "--datasets", "tiny", "--data-path", "data"]
        arguments += ["--seeds", "1", "--epochs=2", "--MAX_ITEM_LIST_LENGTH=10", "--csv", "q.csv"]
        arguments += [f"--load_col={tiny_dataset['load_col']}", "--bucket_size_y=4", "--n_outside=3"]
        assert quality.main(arguments) == 0, capsys.readouterr().err
        (row,) = quality.read_rows(Path("q.csv"))
        for column in ("ndcg@10", "recall@10", "itemcoverage@10", "bucket_coverage"):
            assert 0 <= float(row[column]) <= 1
        for column in ("training_seconds", "training_cpu_seconds", "seconds_to_95", "resident_mib"):
            assert float(row[column]) > 0
        assert (row["epochs"], row["epochs_allowed"], row["loss"]) == ("2", "2", "SCE")
        assert (row["torch"], row["python"]) == (version("torch"), sys.version.split()[0])
        monkeypatch.setattr(comparison, "run_in_process", None)  # nothing is run again
        assert quality.main(arguments) == 0
        assert "skipped" in capsys.readouterr().out
        assert quality.main(["render", "--csv", "q.csv", "--page", "quality.md"]) == 0
        assert "### tiny" in Path("quality.md").read_text()
        assert not Path("README.md").exists()
