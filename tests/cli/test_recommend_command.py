"""recbole-sce recommend, its files of users, histories and recommendations."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recbole.quick_start import run_recbole

from cli.conftest import Call
from recbole_sce.cli.errors import InputError
from recbole_sce.cli.lists import RecommendationWriter, read_histories, read_users
from recbole_sce.inference.recommender import TopItems
from recbole_sce.training.callbacks.last_state import best_path

TOP = TopItems(
    ["a", 'b,"'],
    np.array([["i1", "i2"], ["ü", "i4"]]),
    np.array([[2.0, 1.5], [0.25, -np.inf]], dtype=np.float32),
)


@pytest.fixture
def checkpoint(tiny_dataset: dict[str, object], tmp_path: Path) -> Path:
    settings = {**tiny_dataset, "hidden_size": 16, "inner_size": 16, "n_layers": 1}
    run_recbole("SASRecSCE", "tiny", config_dict=settings)
    (last,) = (tmp_path / "saved").glob("SASRecSCE-*-last.pth")
    return best_path(last)


@pytest.mark.slow
def test_users_vectors_and_index(checkpoint: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("u5\n\nu3\n")
    outcome = call(
        "recommend",
        checkpoint,
        "-u",
        "u7",
        "--users",
        "users.txt",
        "-k",
        4,
        "--out",
        "top.csv",
        "--item-vectors",
        "items.npy",
        "--faiss",
        "items.faiss",
    )
    assert outcome.code == 0, outcome.err
    with (tmp_path / "top.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["u7"] * 4 + ["u5"] * 4 + ["u3"] * 4
    assert [row["rank"] for row in rows[:4]] == ["1", "2", "3", "4"]
    assert np.load(tmp_path / "items.npy").shape == (40, 16)
    assert (tmp_path / "items.ids.txt").read_text().split()[0].startswith("i")
    assert (tmp_path / "items.faiss").is_file()
    assert "recall@4 against exact search 1.0000 (60 users)" in outcome.err
    assert "3 served" in outcome.err

    outcome = call("recommend", tmp_path / "nothing.pth")
    assert (outcome.code, outcome.err.strip()) == (
        2,
        f"error: checkpoint {tmp_path}/nothing.pth does not exist",
    )
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    outcome = call("recommend", checkpoint)
    assert outcome.code == 2
    assert "is no complete checkpoint" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_histories_and_mistakes(checkpoint: Path, call: Call, tmp_path: Path) -> None:
    histories = tmp_path / "h.jsonl"
    histories.write_text('{"id": 1, "items": ["i1", "new", "i2"]}\n{"id": "b", "items": ["new"]}\n')
    outcome = call("recommend", checkpoint, "--histories", histories, "-k", 40, "--exclude-seen")
    assert outcome.code == 0, outcome.err
    (line,) = map(json.loads, outcome.out.splitlines())
    assert line["id"] == "1"
    assert set(line["items"]) == {f"i{number}" for number in range(40)} - {"i1", "i2"}
    assert line["scores"] == sorted(line["scores"], reverse=True)
    assert "warning: 2 items of the histories are unknown and were skipped: new" in outcome.err
    assert "warning: 1 histories have no known item and got no recommendation: b" in outcome.err

    outcome = call("recommend", checkpoint, "--out", tmp_path / "all.jsonl")
    assert outcome.code == 0, outcome.err
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 60

    mistakes: list[tuple[list[Any], str]] = [
        (["-u", "u1", "-u", "nobody"], "1 of 2 users are unknown to the model: 'nobody'"),
        (["-u", "u1", "--k", 41], "k must be 1 to 40, the number of items, got 41"),
        (["--histories", histories, "-u", "u1"], "--histories cannot go with --user"),
        (["--histories", tmp_path / "none.csv"], "none.csv does not exist"),
        (["--histories", histories, "--history", "test"], "--history is about users"),
        (["--out", tmp_path / "top.xlsx"], "--out must be a file ending in .csv, .parquet, .jsonl, got "),
        (["--out", tmp_path / "no" / "top.csv"], "--out must be a file in a folder that exists, got "),
        (["--data_path", tmp_path / "nowhere"], "does not exist; set data_path"),
        (["--usr", "u1"], "No such option"),
    ]
    for arguments, text in mistakes:
        outcome = call("recommend", checkpoint, *arguments)
        assert outcome.code == 2, arguments
        assert text in " ".join(outcome.err.split())
        assert "Traceback" not in outcome.err


def test_users_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "u.txt").write_text("\ufeffa\r\n\n b c \n", encoding="utf-8")
    assert read_users(tmp_path / "u.txt") == ["a", "b c"]
    (tmp_path / "u.txt").write_text("\n")
    with pytest.raises(InputError, match="holds no user"):
        read_users(tmp_path / "u.txt")


def test_histories_in_csv_and_json_lines(tmp_path: Path) -> None:
    table, lines = tmp_path / "h.csv", tmp_path / "h.jsonl"
    table.write_text('\ufeffitems,id\n1 2  3,a\n"",b\n', encoding="utf-8")
    lines.write_text('{"id": "a", "items": [1, "2", "3"]}\n\n{"id": "b", "items": []}\n')
    assert list(read_histories(table)) == [("a", ["1", "2", "3"]), ("b", [])]
    assert list(read_histories(lines)) == list(read_histories(table))


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("h.csv", "user,items\na,1\n", "must name the columns id and items"),
        ("h.csv", "id,items\na\n", "line 2: a column is missing"),
        ("h.jsonl", '{"id": "a", "items": ["1"]}\nnonsense\n', "line 2: expected"),
        ("h.jsonl", '{"id": "a", "items": "1 2"}\n', "line 1: expected"),
        ("h.jsonl", '{"items": ["1"]}\n', "line 1: expected"),
        ("h.jsonl", "[1]\n", "line 1: expected"),
    ],
)
def test_broken_histories(name: str, text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=problem):
        list(read_histories(tmp_path / name))


def written(path: Path) -> list[tuple[Any, ...]]:
    with RecommendationWriter(path) as writer:
        writer.write(TOP)
        writer.write(TOP)
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["id", "rank", "item", "score"]
        return [(name, int(rank), item, float(score)) for name, rank, item, score in rows]
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs the optional pyarrow")
        return [tuple(row.values()) for row in parquet.read_table(path).to_pylist()]
    entries = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [
        (entry["id"], rank, item, score)
        for entry in entries
        for rank, (item, score) in enumerate(zip(entry["items"], entry["scores"]), start=1)
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_every_format_holds_the_same(suffix: str, tmp_path: Path) -> None:
    rows = [("a", 1, "i1", 2.0), ("a", 2, "i2", 1.5), ('b,"', 1, "ü", 0.25)]  # no candidate: no row
    assert written(tmp_path / f"top{suffix}") == rows * 2
    assert [path.name for path in tmp_path.iterdir()] == [f"top{suffix}"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_nothing_is_left_of_what_was_not_finished(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"top{suffix}"
    path.write_text("earlier")

    def interrupted() -> None:
        with RecommendationWriter(path) as writer:
            writer.write(TOP)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "earlier"
