"""Recommendations from a checkpoint, held against RecBole's full_sort_topk and against the log itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from logs import write_log
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.quick_start import load_data_and_model
from recbole.utils import get_model, init_seed
from recbole.utils.case_study import full_sort_topk

from recbole_sce.compat import CheckpointError, save_checkpoint
from recbole_sce.inference import recommender as recommend
from recbole_sce.inference import vectors
from recbole_sce.inference.recommender import RecommendationError, Recommender, Skipped, TopItems

Checkpoint = Callable[..., Path]


@pytest.fixture
def checkpoint(tiny_dataset: dict[str, object], tmp_path: Path) -> Checkpoint:
    """Write the checkpoint of a model as its random initialisation left it: training changes nothing here."""

    def write(model: str = "SASRecSCE", **settings: object) -> Path:
        config = Config(
            model, "tiny", config_dict={**tiny_dataset, "hidden_size": 16, "inner_size": 16, **settings}
        )
        init_seed(7, True)
        dataset = create_dataset(config)
        train, _, _ = data_preparation(config, dataset)
        network = get_model(model)(config, train._dataset)
        for parameter in network.parameters():  # scores far enough apart that rounding cannot swap them
            torch.nn.init.normal_(parameter, std=0.5)
        path = tmp_path / f"{model}.pth"
        state = {"config": config, "state_dict": network.state_dict(), "other_parameter": None}
        save_checkpoint(state, path)
        return path

    return write


def log_of(path: Path) -> dict[str, list[str]]:
    """Read the items of each user from an atomic file, oldest first."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    items = defaultdict(list)
    for user, item, _, _ in sorted(rows, key=lambda row: float(row[3])):
        items[user].append(item)
    return items


def one(tops: Any) -> TopItems:
    (top,) = tops
    return top


def ranked(tops: Any) -> list[tuple[str, list[str]]]:
    return [(name, items) for top in tops for name, items, _ in top.rows()]


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("SASRecSCE", {}),
        ("BERT4RecSCE", {}),
        ("CORESCE", {"embedding_size": 16}),
        ("HGNSCE", {"embedding_size": 16}),
        ("SASRec", {"train_neg_sample_args": None}),
    ],
)
def test_users_as_in_evaluation_agree_with_full_sort_topk(
    model: str, settings: dict[str, object], checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint(model, **settings)
    monkeypatch.setattr(recommend, "BATCH", 7)
    users = [f"u{number}" for number in range(60)]
    tops = list(Recommender.load(path).for_users(users, k=5, history="test"))
    assert [name for top in tops for name in top.ids] == users
    assert len(tops) == 9

    _, network, dataset, _, _, test = load_data_and_model(str(path))
    network.eval()
    scores, items = full_sort_topk(dataset.token2id("user_id", users), network, test, k=5)
    assert np.concatenate([top.items for top in tops]).tolist() == dataset.id2token("item_id", items).tolist()
    np.testing.assert_allclose(
        np.concatenate([top.scores for top in tops]), scores.detach(), rtol=1e-4, atol=1e-5
    )


def test_histories_of_strangers_are_ranked_as_those_of_users(checkpoint: Checkpoint, tmp_path: Path) -> None:
    recommender = Recommender.load(checkpoint())
    log = log_of(tmp_path / "data" / "tiny" / "tiny.inter")
    users = list(log)
    of_users = ranked(recommender.for_users(users, k=4))
    assert ranked(recommender.for_histories(log.items(), k=4)) == of_users
    held_out = [(user, items[:-1]) for user, items in log.items()]
    of_test = ranked(recommender.for_users(users, k=4, history="test"))
    assert ranked(recommender.for_histories(held_out, k=4)) == of_test
    assert of_test != of_users


@pytest.mark.parametrize("model", ["SASRecSCE", "SASRec"])
def test_what_was_seen_long_ago_is_excluded(model: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    settings = {} if model == "SASRecSCE" else {"train_neg_sample_args": None}
    recommender = Recommender.load(checkpoint(model, **settings))
    log = log_of(tmp_path / "data" / "tiny" / "tiny.inter")
    user, items = max(log.items(), key=lambda entry: len(set(entry[1])))
    assert len(items) > 10  # MAX_ITEM_LIST_LENGTH: what is excluded is more than what the model sees
    everything = recommender.n_items
    rest = {f"i{number}" for number in range(40)} - set(items)
    ((_, without),) = ranked(recommender.for_users([user], k=everything, exclude_seen=True))
    assert set(without) == rest
    ((_, without),) = ranked(recommender.for_histories([("x", items)], k=everything, exclude_seen=True))
    assert set(without) == rest
    ((_, with_seen),) = ranked(recommender.for_users([user], k=everything))
    assert len(with_seen) == everything
    assert [item for item in with_seen if item in rest] == without


def test_unknown_items_are_skipped_and_counted(checkpoint: Checkpoint) -> None:
    recommender = Recommender.load(checkpoint())
    skipped = Skipped()
    histories = [("a", ["i1", "new", "i2", "[PAD]"]), ("b", ["new"]), ("c", []), ("d", ["i3"])]
    recommended = ranked(recommender.for_histories(histories, k=3, skipped=skipped))
    assert recommended == ranked(recommender.for_histories([("a", ["i1", "i2"]), ("d", ["i3"])], k=3))
    assert skipped == Skipped(3, ["new", "[PAD]"], 2, ["b", "c"])


def test_users_who_cannot_be_served(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with (tmp_path / "data" / "tiny" / "tiny.inter").open("a") as log:
        log.write("once\ti1\t1\t1600000000\n")
    recommender = Recommender.load(checkpoint())
    assert "once" not in recommender.users
    with pytest.raises(
        RecommendationError, match="2 of 3 users are unknown to the model: 'u60', '\\[PAD\\]'"
    ):
        recommender.for_users(["u60", "u1", "[PAD]"], k=3)
    with pytest.raises(RecommendationError, match="1 of 1 users have no history"):
        recommender.for_users(["once"], k=3)


@pytest.mark.parametrize("k", [0, 41])
def test_k_is_checked_before_work(k: int, checkpoint: Checkpoint) -> None:
    recommender = Recommender.load(checkpoint())
    with pytest.raises(RecommendationError, match="1 to 40"):
        recommender.for_users(["u1"], k)
    with pytest.raises(RecommendationError, match="1 to 40"):
        recommender.for_histories([], k)
    with pytest.raises(RecommendationError, match="one of full, test"):
        recommender.for_users(["u1"], 1, history="tets")


@pytest.mark.parametrize("model", ["HGNSCE", "HGN"])
def test_a_model_with_user_embeddings_serves_no_strangers(model: str, checkpoint: Checkpoint) -> None:
    settings = {} if model == "HGNSCE" else {"loss_type": "CE", "train_neg_sample_args": None}
    recommender = Recommender.load(checkpoint(model, embedding_size=16, **settings))
    with pytest.raises(RecommendationError, match=f"{model} scores by an embedding of the user"):
        list(recommender.for_histories([("x", ["i1"])], k=3))


def test_a_diverged_model_is_not_served(checkpoint: Checkpoint) -> None:
    recommender = Recommender.load(checkpoint())
    torch.nn.init.constant_(recommender.model.item_embedding.weight, float("nan"))
    with pytest.raises(RecommendationError, match="diverged"):
        list(recommender.for_users(["u1"], k=3))


class TestLoading:
    def test_data_that_was_moved(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        path = checkpoint()
        expected = ranked(Recommender.load(path).for_users(["u3"], k=3))
        (tmp_path / "data").rename(tmp_path / "elsewhere")
        with pytest.raises(FileNotFoundError, match=r"tiny'.*does not exist; set data_path"):
            Recommender.load(path)
        assert (
            ranked(Recommender.load(path, data_path=tmp_path / "elsewhere").for_users(["u3"], k=3))
            == expected
        )

    def test_data_that_has_changed(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        path = checkpoint()
        write_log(tmp_path / "data", "tiny", n_items=50)
        with pytest.raises(RecommendationError, match="does not fit the data set"):
            Recommender.load(path)

    def test_no_checkpoint(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"none\.pth"):
            Recommender.load(tmp_path / "none.pth")
        torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pth")
        with pytest.raises(CheckpointError, match="no configuration"):
            Recommender.load(tmp_path / "other.pth")

    def test_a_model_without_histories(self, checkpoint: Checkpoint) -> None:
        path = checkpoint("BPR")
        with pytest.raises(RecommendationError, match="BPR, which is not sequential"):
            Recommender.load(path)


class TestVectors:
    def test_users_without_a_hidden_state_are_named(self, checkpoint: Checkpoint) -> None:
        recommender = Recommender.load(checkpoint())
        with pytest.raises(RecommendationError, match="1 of 2 users are unknown to the model: 'u60'"):
            recommender.hidden_states(["u4", "u60"])
        with pytest.raises(RecommendationError, match="history must be one of full, test, got 'last'"):
            recommender.hidden_states(["u4"], history="last")

    def test_products_with_hidden_states_are_scores(self, checkpoint: Checkpoint, tmp_path: Path) -> None:
        recommender = Recommender.load(checkpoint("BERT4RecSCE"))
        ids, table = recommender.item_vectors()
        scores = recommender.hidden_states(["u4"]) @ table.T
        top = one(recommender.for_users(["u4"], k=40))
        assert ids[np.argsort(-scores[0])].tolist() == top.items[0].tolist()
        np.testing.assert_allclose(np.sort(scores[0])[::-1], top.scores[0], rtol=1e-4, atol=1e-5)

        ids_path = vectors.save_item_vectors(tmp_path / "items.npy", ids, table)
        assert ids_path.read_text().split() == ids.tolist()
        assert np.array_equal(np.load(tmp_path / "items.npy"), table)

    def test_a_model_without_a_table_has_none(self, checkpoint: Checkpoint) -> None:
        recommender = Recommender.load(checkpoint("SASRec", train_neg_sample_args=None))
        with pytest.raises(RecommendationError, match="SASRec has no item vectors"):
            recommender.item_vectors()

    @pytest.mark.parametrize("exact_below", [10_000, 0])
    def test_the_recall_of_an_index_is_measured(
        self, exact_below: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faiss = pytest.importorskip("faiss", reason="an index needs the extra recbole_sce[faiss]")
        monkeypatch.setattr(vectors, "EXACT_BELOW", exact_below)
        rng = np.random.default_rng(0)
        table = rng.normal(size=(2000, 8)).astype(np.float32)
        queries = rng.normal(size=(50, 8)).astype(np.float32)
        index = vectors.build_index(table)
        vectors.write_index(index, tmp_path / "items.faiss")
        index = faiss.read_index(str(tmp_path / "items.faiss"))
        measured = vectors.recall(index, table, queries, 10)

        best = np.argsort(-(queries @ table.T), axis=1)[:, :10]
        neighbours = index.search(queries, 10)[1]
        assert measured == pytest.approx(
            np.mean([len(set(a) & set(b)) / 10 for a, b in zip(best, neighbours)])
        )
        assert measured == 1 if exact_below else 0.3 < measured < 1
