"""The same file in another order of lines: NDCG@10 falls, and users get the recommendations of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cli.conftest import Call
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer

from recbole_sce.compat import CheckpointError, safe_load, save_checkpoint
from recbole_sce.data import ids
from recbole_sce.inference.recommender import RecommendationError, Recommender

from .conftest import ROWS, Toy

MODELS: dict[str, dict[str, Any]] = {
    "SASRecSCE": {},
    "BERT4RecSCE": {},  # a mask row behind the items
    "HGNSCE": {},  # embeddings of users
    "CaserSCE": {"reg_weight": 1e-4},
    "SASRecFSCE": {
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "cat", "tags"]},
        "selected_features": ["cat", "tags"],
    },
    "SHANSCE": {},  # reads a transformed history
    "SASRec": {},
    "HGN": {"loss_type": "CE"},
}
CHANGES: dict[str, list[tuple[str, str, str]]] = {
    "sorted": sorted(ROWS),
    "backwards": ROWS[::-1],
    "one row more at the top": [("u1", "i39", "-1"), *ROWS],
}
Vectors = dict[str, torch.Tensor]


def write_features(toy: Toy, reverse: bool = False, more: tuple[str, ...] = ()) -> None:
    items = [f"i{number}" for number in range(40)]
    rows: Any = [
        (item, f"c{int(item[1:]) % 4}", f"t{int(item[1:]) % 3} t{int(item[1:]) % 5}") for item in items
    ]
    rows = [*((item, "c9", "t9 t1") for item in more), *(rows[::-1] if reverse else rows)]
    toy.write(rows, "item", "item_id:token\tcat:token\ttags:token_seq")


def answers(file: str) -> Any:
    """All users' first items as evaluation ranks them, and the metrics of the test."""
    recommender = Recommender.load(file)
    tops = recommender.for_users([f"u{number}" for number in range(30)], k=5, history="test")
    lists = {name: items for top in tops for name, items, _ in top.rows()}
    config, model, _, _, _, test = load_data_and_model(file)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    return lists, dict(trainer.evaluate(test, load_best_model=False))


def test_every_line_moved(toy: Toy) -> None:
    """Not to be lost: the fault itself must show where ids are ignored."""
    run = toy.trained(epochs=10)
    expected = answers(run.file)
    state = safe_load(run.file)
    del state[ids.KEY]
    save_checkpoint(state, "old.pth")
    assert answers("old.pth") == expected
    toy.write(sorted(ROWS))
    assert answers(run.file) == expected
    assert answers("old.pth") != expected


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("change", ["sorted", "backwards"])
def test_each_item_and_user_keeps_its_own_vector(toy: Toy, model: str, change: str) -> None:
    write_features(toy)
    run = toy.trained(model, **MODELS[model])
    expected = answers(run.file)
    toy.write(CHANGES[change])
    write_features(toy, reverse=True)
    assert answers(run.file) == expected


@pytest.mark.parametrize("model", ["SASRecSCE", "HGNSCE", "SASRec"])
def test_grown_data(toy: Toy, model: str, log_lines: Callable[[], str]) -> None:
    run = toy.trained(model, **MODELS[model])
    lists, _ = answers(run.file)
    new = [("u1", "new item", "1003.5"), ("u2", "i7", "-5"), ("new user", "i3", "1"), ("new user", "i4", "2")]
    toy.write([*new, *sorted(ROWS)])
    recommender = Recommender.load(run.file)
    got = {
        name: items
        for top in recommender.for_users(list(lists), 5, history="test")
        for name, items, _ in top.rows()
    }
    # An older interaction beyond MAX_ITEM_LIST_LENGTH, and one with an item without a vector, change nothing.
    assert got == {**lists, "u2": got["u2"]}
    assert "1 values of item_id" in log_lines()
    assert "have no vector, so they are left out of histories and never recommended: new item" in log_lines()
    assert recommender.n_items == 40
    everything = next(iter(recommender.for_users(["u1"], 40)))
    assert "new item" not in everything.items
    if model == "HGNSCE":
        assert "have no embedding, so their interactions are left out: new user" in log_lines()
        with pytest.raises(RecommendationError, match="unknown to the model: 'new user'"):
            recommender.for_users(["new user"], 1)
    else:
        (served,) = recommender.for_users(["new user"], 3)
        (stranger,) = recommender.for_histories([("x", ["i3", "i4"])], 3)
        assert served.items.tolist() == stranger.items.tolist()


def test_items_that_left_the_files_keep_their_vectors(toy: Toy) -> None:
    run = toy.trained()
    toy.write([row for row in ROWS if row[1] != "i5"])
    recommender = Recommender.load(run.file)
    assert recommender.n_items == 40
    names, vectors = recommender.item_vectors()
    place = run.dataset.token2id("item_id", "i5")
    trained = safe_load(run.file)["state_dict"]["item_embedding.weight"]
    assert torch.equal(torch.from_numpy(vectors[names.tolist().index("i5")]), trained[place])


def test_new_values_of_features_count_as_missing(toy: Toy, log_lines: Callable[[], str]) -> None:
    write_features(toy)
    run = toy.trained("SASRecFSCE", **MODELS["SASRecFSCE"])
    expected, metrics = answers(run.file)
    write_features(toy, reverse=True, more=("i98", "i99"))
    assert answers(run.file) == (expected, metrics)
    assert "1 values of cat in the data set toy are unknown to the model" in log_lines()
    assert "count as missing: c9" in log_lines()


def test_other_data_of_the_same_name_is_refused(toy: Toy) -> None:
    run = toy.trained()
    toy.write([(f"a{user}", f"b{item}", time) for user, item, time in ROWS])
    with pytest.raises(CheckpointError, match=r"the model knows none of its items.*another data set"):
        Recommender.load(run.file)
    with pytest.raises(CheckpointError, match="the model knows none of its items"):
        load_data_and_model(run.file)


@pytest.mark.parametrize("model", ["SASRecSCE", "SASRec", "BPR"])
def test_tables_are_not_loaded_into_a_model_of_other_ids(toy: Toy, model: str) -> None:
    keys: dict[str, Any] = {}
    if model == "BPR":
        keys["train_neg_sample_args"] = {
            "distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0
        }  # fmt: skip
    first = toy.trained(model, **keys)
    assert first.trainer.evaluate(first.test)
    toy.write(sorted(ROWS))
    other = toy.prepared(model, **keys)
    with pytest.raises(
        CheckpointError, match=r"model_file: .* ids of item_id, user_id now belong to other tokens"
    ):
        other.trainer.evaluate(other.test, model_file=first.file)
    with pytest.raises(CheckpointError, match=r"files of the data set have changed since.*item_id, user_id"):
        other.trainer.resume_checkpoint(first.file)


@pytest.mark.parametrize("change", [*CHANGES, "other names"])
def test_a_run_does_not_go_on_with_other_ids(toy: Toy, change: str) -> None:
    run = toy.trained(epochs=1)
    names = [(user, {"i1": "i2", "i2": "i1"}.get(item, item), time) for user, item, time in ROWS]
    toy.write(CHANGES.get(change, names))
    for resume in ("auto", run.file):
        later = toy.prepared(epochs=2, resume=resume)
        with pytest.raises(CheckpointError, match="files of the data set have changed since"):
            later.trainer.fit(later.train, later.valid)
    toy.write(ROWS)
    later = toy.prepared(epochs=2, resume="auto")
    later.trainer.fit(later.train, later.valid)
    assert later.trainer.epoch == 1


def test_a_pretrained_model_of_other_ids_is_refused(toy: Toy) -> None:
    write_features(toy)
    keys = {
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "tags"]},
        "item_attribute": "tags",
        "pretrain_epochs": 1,
        "save_step": 1,
    }
    pretrained = toy.prepared("S3Rec", train_stage="pretrain", **keys)
    pretrained.trainer.pretrain(pretrained.train)
    fine = {"train_stage": "finetune", "pre_model_path": pretrained.trainer.saved_model_file, **keys}
    toy.prepared("S3RecSCE", **fine)
    toy.write(sorted(ROWS))
    for model in ("S3RecSCE", "S3Rec"):
        with pytest.raises(CheckpointError, match=r"pre_model_path: .*other training data"):
            toy.prepared(model, **fine)


def test_a_checkpoint_of_release_0_1_0_is_loaded_with_a_warning(
    toy: Toy, log_lines: Callable[[], str], tmp_path: Path
) -> None:
    from logs import write_log

    write_log(tmp_path / "data", "tiny")
    file = Path(__file__).parents[1] / "fixtures" / "release-0.1.0" / "SASRecSCE.pth"
    recommender = Recommender.load(file, data_path=tmp_path / "data")
    (top,) = recommender.for_users(["u1"], 3)
    assert (top.scores[0] > 0).any() or len(top.items[0]) == 3
    assert "SASRecSCE.pth was written without the ids of its items" in log_lines()


def test_saved_data_is_not_taken_for_a_checkpoint_of_other_ids(toy: Toy) -> None:
    run = toy.trained()
    expected = answers(run.file)
    toy.write(sorted(ROWS))
    toy.prepared(save_dataset=True, save_dataloaders=True)  # in the folder in which a checkpoint's are sought
    assert answers(run.file) == expected


def test_the_command_names_items_without_a_vector(toy: Toy, call: Call) -> None:
    run = toy.trained()
    before = call("recommend", run.file, "-u", "u1", "--history", "test")
    toy.write([("u9", "i99", "5"), *sorted(ROWS)])
    outcome = call("recommend", run.file, "-u", "u1", "--history", "test")
    assert (outcome.code, outcome.out) == (0, before.out)


def test_damaged_ids_are_named(toy: Toy) -> None:
    run = toy.trained()
    state = safe_load(run.file)
    state[ids.KEY]["lists"][0]["lengths"][3] += 1
    save_checkpoint(state, "damaged.pth")
    with pytest.raises(CheckpointError, match=r"damaged\.pth is damaged: of the ids of its tokens"):
        Recommender.load("damaged.pth")


def test_a_knowledge_graph_is_refused(toy: Toy) -> None:
    items = range(40)
    toy.write([(f"i{n}", f"e{n}") for n in items], "link", "item_id:token\tentity_id:token")
    toy.write(
        [(f"e{n}", f"r{n % 3}", f"e{(n + 1) % 40}") for n in items],
        "kg",
        "head_id:token\trelation_id:token\ttail_id:token",
    )
    toy.write([(f"e{n}", " ".join(["0.5"] * 16)) for n in items], "ent", "ent_id:token\tent_vec:float_seq")
    keys = {
        "load_col": {
            "inter": ["user_id", "item_id", "timestamp"],
            "kg": ["head_id", "relation_id", "tail_id"],
            "link": ["item_id", "entity_id"],
            "ent": ["ent_id", "ent_vec"],
        },
        "preload_weight": {"ent_id": "ent_vec"},
        "additional_feat_suffix": ["ent"],
        "alias_of_entity_id": ["ent_id"],
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    }
    run = toy.trained("GRU4RecKGSCE", epochs=1, **keys)
    expected = answers(run.file)
    assert answers(run.file) == expected
    toy.write(sorted(ROWS))
    for load in (Recommender.load, load_data_and_model):
        with pytest.raises(
            CheckpointError, match=r"ids of .*item_id.* cannot be taken over with a IndexedKGSeq"
        ):
            load(run.file)


@pytest.mark.parametrize("model", ["SASRecSCE", "HGN"])
def test_the_temporal_protocol_on_grown_data(toy: Toy, model: str) -> None:
    rows = [(user, item, str(int(time) % 1000 + 3 * int(user[1:]))) for user, item, time in ROWS]
    keys: dict[str, Any] = {**MODELS[model], "temporal_holdout": 0.9}
    toy.write(rows)
    run = toy.trained(model, epochs=1, **keys)
    expected = answers_of_held_out(run)
    toy.write(sorted(rows))
    assert answers_of_held_out(run) == expected
    late = [(f"late{user}", f"i{user + step}", str(500 + step)) for user in range(2) for step in range(5)]
    toy.write([*late, *sorted(rows)])
    recommender = Recommender.load(run.file)
    assert ("late1" in recommender.users) == (model == "SASRecSCE")


def answers_of_held_out(run: Any) -> Any:
    recommender = Recommender.load(run.file)
    users = sorted(recommender.users)
    return {name: items for top in recommender.for_users(users, 5) for name, items, _ in top.rows()}


def test_an_item_that_is_called_as_padding(toy: Toy) -> None:
    rows = [(user, "[PAD]" if item == "i5" else item, time) for user, item, time in ROWS]
    toy.write(rows)
    run = toy.trained(epochs=1)
    expected = answers_of_held_out(run)
    toy.write(sorted(rows))
    assert answers_of_held_out(run) == expected


def test_features_of_users(toy: Toy) -> None:
    users = [(f"u{number}", f"g{number % 4}", str(number / 7)) for number in range(30)]
    header = "user_id:token\tgroup:token\tage:float"
    toy.write(users, "user", header)
    load = {"inter": ["user_id", "item_id", "timestamp"], "user": ["user_id", "group", "age"]}
    run = toy.trained("HGNSCE", epochs=1, load_col=load)
    before = run.dataset
    toy.write([("new", "g9", "3"), *users[::-1]], "user", header)
    toy.write([("new", "i1", "1"), ("new", "i2", "2"), *sorted(ROWS)])
    _, _, dataset, *_ = load_data_and_model(run.file)
    for field in ("group", "age"):
        assert torch.equal(dataset.user_feat[field], before.user_feat[field])
    assert dataset.field2id_token["user_id"].tolist() == before.field2id_token["user_id"].tolist()
