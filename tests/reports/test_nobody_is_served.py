"""Recommending gives "no history" for users who have one, or an empty file and exit code 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli.conftest import Call

from recbole_sce.inference.recommender import Recommender

from .conftest import ROWS, Toy

FILES = {
    "benchmark_filename": ["train", "valid", "test"],
    "alias_of_item_id": ["item_id_list"],
    "load_col": {"inter": ["user_id", "item_id", "item_id_list"]},
}


def logs() -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for user, item, _ in sorted(ROWS, key=lambda row: float(row[2])):
        result.setdefault(user, []).append(item)
    return result


def write_files(toy: Toy, cut: int = 99, chained: bool = True, few: bool = False) -> None:
    parts: dict[str, list[Any]] = {"train": [], "valid": [], "test": []}
    for user, items in logs().items():
        for k in range(1, len(items)):
            part = "test" if k == len(items) - 1 else "valid" if k == len(items) - 2 else "train"
            if not chained and part == "train":
                continue  # one row here, so that a user's rows do not all follow each other
            parts[part].append((user, " ".join(items[max(0, k - cut) : k]), items[k]))
    if not chained:
        parts["train"] = [("u0", "i1 i2", "i3")]
    if few:
        parts["test"] = [row for row in parts["test"] if row[0] != "u3"]
    for part, rows in parts.items():
        by_step = sorted(rows, key=lambda row: row[1].count(" "))  # users mixed, each in order of time
        toy.write(by_step, f"{part}.inter", "user_id:token\titem_id_list:token_seq\titem_id:token")


@pytest.fixture
def ranked() -> Callable[..., Any]:
    def lists(recommender: Recommender, users: list[str], history: str, exclude: bool = False) -> Any:
        tops = recommender.for_users(users, 5, exclude_seen=exclude, history=history)
        return [items for top in tops for _, items, _ in top.rows()]

    return lists


@pytest.mark.parametrize("model", ["SASRecSCE", "HGNSCE", "SASRec"])
@pytest.mark.parametrize("cut", [99, 3])
def test_histories_of_files_serve(toy: Toy, model: str, cut: int, ranked: Callable[..., Any]) -> None:
    write_files(toy, cut)
    run = toy.trained(model, **FILES, MAX_ITEM_LIST_LENGTH=min(cut, 7))  # HGN needs the very length
    recommender = Recommender.load(run.file)
    assert sorted(recommender.users) == sorted(logs())
    for user, items in logs().items():
        code = run.dataset.token2id("user_id", user)
        for history, expected in (("full", items), ("test", items[:-1])):
            log = recommender._log.history(code, history)
            assert run.dataset.id2token("item_id", log).tolist() == expected
    if model == "SASRecSCE":
        users = list(logs())
        assert ranked(recommender, users, "full") == [
            items for top in recommender.for_histories(logs().items(), 5) for _, items, _ in top.rows()
        ]
        for items, seen in zip(ranked(recommender, users, "full", exclude=True), logs().values()):
            assert not set(items) & set(seen)


def test_rows_that_do_not_follow_each_other_count_by_the_last(toy: Toy) -> None:
    write_files(toy, cut=3, chained=False)
    recommender = Recommender.load(toy.trained(**FILES).file)
    names = recommender._dataset
    items = names.id2token("item_id", recommender._log.history(names.token2id("user_id", "u0"), "full"))
    assert items.tolist() == logs()["u0"][-5:]  # of validation and test; what is in training is no part of it


def test_users_without_a_test_row(toy: Toy) -> None:
    write_files(toy, few=True)
    recommender = Recommender.load(toy.trained(**FILES).file)
    code = recommender._user_codes["u3"]
    for history in ("full", "test"):
        names = recommender._dataset.id2token("item_id", recommender._log.history(code, history))
        assert names.tolist() == logs()["u3"][:-1]


def test_the_command_serves_all_users_of_files(toy: Toy, call: Call, tmp_path: Path) -> None:
    write_files(toy)
    outcome = call("recommend", toy.trained(**FILES).file, "--out", tmp_path / "all.jsonl")
    assert outcome.code == 0, outcome.err
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 30


def test_files_that_have_grown(toy: Toy, log_lines: Callable[[], str]) -> None:
    write_files(toy)
    run = toy.trained(**FILES)
    expected = [
        items for top in Recommender.load(run.file).for_users(["u1"], 5) for _, items, _ in top.rows()
    ]
    path = toy.folder / "data" / "toy" / "toy.train.inter"
    header, *lines = path.read_text().splitlines()
    more = ["u1\tnew\ti3", "u1\ti2 new\tnewer", "u29\ti3 newest i4\ti5"]
    path.write_text("\n".join([header, *more, *reversed(lines)]) + "\n")
    recommender = Recommender.load(run.file)
    assert [items for top in recommender.for_users(["u1"], 5) for _, items, _ in top.rows()] == expected
    assert "never recommended: newer, new, newest" in log_lines() or "3 values of" in log_lines()
    assert recommender._dataset.file_size_list == [len(lines) + 1, 30, 30]  # two rows had nothing left


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_no_recommendation_at_all_is_a_failure(
    toy: Toy,
    call: Call,
    tmp_path: Path,
    form: str,
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    run = toy.trained(epochs=1)
    (tmp_path / "h.jsonl").write_text('{"id": 1, "items": ["nothing known"]}\n')
    out = tmp_path / f"top.{form}"
    outcome = call("recommend", run.file, "--histories", "h.jsonl", "--out", out)
    assert outcome.code == 2
    assert "nothing was recommended: h.jsonl has no history with an item that the model knows" in outcome.err
    assert not out.exists()
    (tmp_path / "h.jsonl").write_text("")
    assert call("recommend", run.file, "--histories", "h.jsonl", "--out", out).code == 2
    items = " ".join(f"i{number}" for number in range(40))
    (tmp_path / "h.csv").write_text(f"id,items\nx,{items}\n")
    outcome = call("recommend", run.file, "--histories", "h.csv", "--exclude-seen", "--out", out)
    assert outcome.code == 2
    assert "--exclude-seen leaves no item to anybody" in outcome.err
    assert not out.exists()


def test_histories_of_a_model_that_transforms_them(toy: Toy) -> None:
    run: SimpleNamespace = toy.trained("SHANSCE")
    recommender = Recommender.load(run.file)
    (top,) = recommender.for_users(["u1", "u2"], 4, history="test")
    from recbole.utils.case_study import full_sort_topk

    users = run.dataset.token2id("user_id", ["u1", "u2"])
    _, items = full_sort_topk(users, recommender.model, run.test, 4)
    assert top.items.tolist() == run.dataset.id2token("item_id", items.numpy()).tolist()
