"""The data set against RecBole's own ``SequentialDataset``, its order of time patched, mostly on ml-100k."""

from __future__ import annotations

import pickle
from collections import defaultdict

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import SequentialDataset
from recbole.model.sequential_recommender import SASRec

import recbole_sce  # noqa: F401  (patches RecBole's order of interactions)
from recbole_sce.data.dataset import IndexedSequenceDataset
from recbole_sce.data.fields import target_list_field

TARGETS = "target_item_id_list"


class SASRecWithRatings(SASRec):
    """Stands for a user's model that reads the history of ratings and of tags."""

    sequence_fields = ("rating", "tags")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])


def config_of(dataset="ml-100k", model="SASRec", **keys):
    keys = {"train_neg_sample_args": None, "gpu_id": "", "state": "ERROR", **keys}
    return Config(model=model, dataset=dataset, config_dict=keys)


def ours(train_positions="last", **keys):
    return IndexedSequenceDataset(config_of(train_positions=train_positions, **keys))


def recboles(**keys):
    return SequentialDataset(config_of(**keys))


def split(kind, ratios, group_by="user"):
    return {"eval_args": {"split": {kind: ratios}, "order": "TO", "group_by": group_by, "mode": "full"}}


def everything(dataset):
    return dataset[np.arange(len(dataset))]


def all_windows(dataset):
    return dataset.training_batch(np.arange(len(dataset.windows)))


def assert_same_batch(batch, reference, but=()):
    assert set(batch) == set(reference) - set(but)
    for field in batch:
        assert batch[field].dtype == reference[field].dtype, field
        assert torch.equal(batch[field], reference[field]), field


SMALL = {"user_inter_num_interval": "[200,300]", "item_inter_num_interval": "[3,inf)"}
CASES = {
    "leave one out": {},
    "validation only": {**SMALL, **split("LS", "valid_only")},
    "test only": {**SMALL, **split("LS", "test_only")},
    "ratio by user": {**SMALL, **split("RS", [0.8, 0.1, 0.1])},
    "ratio over time": {**SMALL, **split("RS", [8, 1, 1], group_by=None)},
    "point in time": {**SMALL, **split("TS", [0.8, 0.1, 0.1])},
    "filters": {
        "val_interval": {"rating": "[3,inf)"},
        "user_inter_num_interval": "[30,200)",
        "item_inter_num_interval": "[10,inf)",
        "MAX_ITEM_LIST_LENGTH": 7,
        "normalize_all": False,
    },
    "features": {
        **SMALL,
        "load_col": {
            "inter": ["user_id", "item_id", "rating", "timestamp"],
            "user": ["user_id", "age", "occupation"],
            "item": ["item_id", "release_year", "class"],
        },
        "unused_col": {"inter": ["rating"]},
        "threshold": None,
    },
    "labels": {**SMALL, "threshold": {"rating": 4}},
}


@pytest.mark.parametrize("case", CASES)
def test_ids_rows_and_splits_are_recboles(case):
    keys = CASES[case]
    dataset, reference = ours(**keys), recboles(**keys)
    assert str(dataset) == str(reference)  # statistics of the table
    for field, tokens in reference.field2id_token.items():
        assert dataset.field2id_token[field].tolist() == tokens.tolist()
        assert dataset.field2token_id[field] == reference.field2token_id[field]

    parts, reference_parts = dataset.build(), reference.build()
    others = [field for field in reference.inter_feat if field.endswith("_list") and field != "item_id_list"]
    for part, expected in zip([dataset, *parts], [reference, *reference_parts]):
        assert len(part) == len(expected)
        assert_same_batch(everything(part), everything(expected), but=others)
        assert part.inter_num == expected.inter_num
        assert part.item_counter == expected.item_counter
        assert part.user_counter == expected.user_counter
        if len(part):
            assert part.avg_actions_of_users == expected.avg_actions_of_users
            assert part.avg_actions_of_items == expected.avg_actions_of_items
            assert part.sparsity == expected.sparsity
            assert (part.inter_matrix("csr") != expected.inter_matrix("csr")).nnz == 0


@pytest.mark.parametrize("listed_only", [True, False])
def test_incomplete_files_of_users_and_items_are_read_like_recboles(tmp_path, listed_only):
    rng = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token\tplace:token\ttimestamp:float"]
    for time in rng.permutation(400):
        item = "" if time % 50 == 0 else f"i{rng.integers(40)}"
        place = "" if time % 30 == 0 else f"p{rng.integers(5)}"
        lines.append(f"u{rng.integers(25)}\t{item}\t{place}\t{time}")
    folder = tmp_path / "data" / "gaps"
    folder.mkdir(parents=True)
    (folder / "gaps.inter").write_text("\n".join(lines) + "\n")
    users = [f"u{user}\t{user % 3}" for user in range(5, 30)]  # some without interactions, some missing
    (folder / "gaps.user").write_text("user_id:token\tgroup:token\n" + "\n".join(users) + "\n")
    items = [f"i{item}\tt{item % 4} t{item % 7}" for item in range(30, -1, -1)]
    (folder / "gaps.item").write_text("item_id:token\ttags:token_seq\n" + "\n".join(items) + "\n")
    keys = {
        "dataset": "gaps",
        "data_path": str(tmp_path / "data"),
        "load_col": None,
        "MAX_ITEM_LIST_LENGTH": 6,
        "filter_inter_by_user_or_item": listed_only,
        "user_inter_num_interval": "[8,inf)",
        "item_inter_num_interval": "[4,30]",
    }
    dataset, reference = ours(**keys), recboles(**keys)
    assert str(dataset) == str(reference)
    for field, tokens in reference.field2id_token.items():
        assert dataset.field2id_token[field].tolist() == tokens.tolist()
    for part, expected in zip(dataset.build(), reference.build()):
        assert_same_batch(everything(part), everything(expected), but=["place_list", "timestamp_list"])


def test_any_index_selects_like_recboles():
    part, expected = ours(**SMALL).build()[0], recboles(**SMALL).build()[0]
    lists = ["rating_list", "timestamp_list"]
    some = np.array([5, 0, 17])
    for index in (
        some,
        torch.tensor(some),
        some.tolist(),
        slice(3, 9),
        4,
        part.inter_feat["item_length"] == 2,
    ):
        assert_same_batch(part[index], expected[index], but=lists)


def test_history_matrices_are_recboles():
    part, expected = ours(**SMALL).build()[0], recboles(**SMALL).build()[0]
    for method in ("history_item_matrix", "history_user_matrix"):
        for arguments in ({}, {"value_field": "rating"}, {"max_history_len": 9}):
            torch.manual_seed(1)
            matrices = getattr(part, method)(**arguments)
            torch.manual_seed(1)
            for matrix, reference in zip(matrices, getattr(expected, method)(**arguments)):
                assert matrix.dtype == reference.dtype
                assert torch.equal(matrix, reference)


def test_histories_of_further_columns_that_the_model_names(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token\trating:float\ttags:token_seq\ttimestamp:float"]
    for time in rng.permutation(300):
        tags = " ".join(f"t{tag}" for tag in rng.integers(0, 9, size=rng.integers(1, 4)))
        lines.append(f"u{rng.integers(20)}\ti{rng.integers(30)}\t{rng.integers(1, 6)}\t{tags}\t{time}")
    folder = tmp_path / "data" / "tagged"
    folder.mkdir(parents=True)
    (folder / "tagged.inter").write_text("\n".join(lines) + "\n")
    keys = {
        "dataset": "tagged",
        "data_path": str(tmp_path / "data"),
        "load_col": {"inter": ["user_id", "item_id", "rating", "tags", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": 6,
        "loss_type": "CE",
    }
    dataset, reference = ours(model=SASRecWithRatings, **keys), recboles(**keys)
    for part, expected in zip(dataset.build(), reference.build()):
        assert_same_batch(everything(part), everything(expected), but=["timestamp_list"])
    assert dataset.field2seqlen["tags_list"] == reference.field2seqlen["tags_list"] == (6, 3)


# Order


@pytest.fixture
def close_times(tmp_path):
    """Interactions 30 s apart, closer than float32 can tell, in a file in random order, some at once."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{rng.integers(50)}", 1_600_000_000 + 30 * int(step))
        for user in range(10)
        for step in [*range(12), 5, 5]
    ]
    rows = [rows[k] for k in rng.permutation(len(rows))]
    folder = tmp_path / "data" / "close"
    folder.mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float", *("\t".join(map(str, row)) for row in rows)]
    (folder / "close.inter").write_text("\n".join(lines) + "\n")
    return rows, {
        "dataset": "close",
        "data_path": str(tmp_path / "data"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    }


def test_interactions_are_in_order_of_exact_time_then_of_the_file(close_times):
    rows, keys = close_times
    dataset = ours(**keys)
    dataset.build()
    histories = defaultdict(list)
    for user, item, _ in sorted(rows, key=lambda row: row[2]):
        histories[user].append(item)
    batch = everything(dataset)
    assert len(batch) == len(rows) - 10
    for user, items, length, target in zip(
        *(batch[field].numpy() for field in ("user_id", "item_id_list", "item_length", "item_id"))
    ):
        seen = dataset.id2token("item_id", [*items[:length], target]).tolist()
        assert seen == histories[dataset.id2token("user_id", user)][: length + 1]


@pytest.mark.parametrize(("keep", "kept_time"), [("first", 5), ("last", 6)])
def test_of_repeated_pairs_the_earliest_or_latest_is_kept(tmp_path, keep, kept_time):
    folder = tmp_path / "data" / "twice"
    folder.mkdir(parents=True)
    at_once = [f"b{item}" for item in np.random.default_rng(0).permutation(60)]
    rows = ["u\ta\t6", "u\ta\t5", *(f"u\t{item}\t5.5" for item in (*at_once, *at_once[:20]))]
    (folder / "twice.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows))
    dataset = ours(
        dataset="twice",
        data_path=str(tmp_path / "data"),
        load_col={"inter": ["user_id", "item_id", "timestamp"]},
        rm_dup_inter=keep,
    )
    table = dataset.inter_feat
    times = dict(zip(dataset.id2token("item_id", table["item_id"].to_numpy()), table["timestamp"]))
    assert times == {"a": kept_time, **dict.fromkeys(at_once, 5.5)}
    order = list(dataset.id2token("item_id", table["item_id"].to_numpy()))
    assert order == (["a", *at_once] if keep == "first" else [*at_once[20:], *at_once[:20], "a"])


# Windows


def pairs_by_user(dataset):
    """Item before each target, and target, as training rows of ``train_positions: last`` name them."""
    batch = everything(dataset)
    rows = torch.arange(len(batch))
    before = batch["item_id_list"][rows, batch["item_length"] - 1]
    pairs = defaultdict(list)
    for user, previous, target in zip(
        *(column.tolist() for column in (batch["user_id"], before, batch["item_id"]))
    ):
        pairs[user].append((previous, target))
    return pairs


def windows_by_user(dataset):
    """Pairs of input and target of each window, oldest window first."""
    batch = all_windows(dataset)
    windows = defaultdict(list)
    for user, inputs, targets, last in zip(
        *(batch[field].tolist() for field in ("user_id", "item_id_list", TARGETS, "item_id"))
    ):
        assert targets[len([item for item in inputs if item]) - 1] == last
        windows[user].append([pair for pair in zip(inputs, targets) if pair != (0, 0)])
    return windows


@pytest.mark.parametrize(
    "case", ["leave one out", "test only", "ratio by user", "ratio over time", "point in time", "filters"]
)
def test_windows_train_each_row_once_and_nothing_that_is_held_out(case):
    keys = CASES[case]
    length = keys.get("MAX_ITEM_LIST_LENGTH", 50)
    train, *held_out = ours("all", **keys).build()
    expected = pairs_by_user(recboles(**keys).build()[0])
    windows = windows_by_user(train)
    assert windows.keys() == expected.keys()
    for user, pairs in expected.items():
        assert [pair for window in windows[user] for pair in window] == pairs
        assert all(len(window) == length for window in windows[user][1:])  # only the oldest is short

    # In ml-100k no user has an item twice, so that ids tell held-out interactions apart.
    unseen = defaultdict(set)
    for part in held_out:
        assert part.windows is None
        assert TARGETS not in part[np.arange(min(len(part), 3))]
        for user, item in zip(part.inter_feat["user_id"].tolist(), part.inter_feat["item_id"].tolist()):
            unseen[user].add(item)
    assert unseen
    for user, items in unseen.items():
        assert items.isdisjoint(item for window in windows[user] for pair in window for item in pair)


def test_a_window_is_padded_as_recbole_pads():
    train = ours("all", **SMALL, MAX_ITEM_LIST_LENGTH=8).build()[0]
    batch = all_windows(train)
    lengths = batch["item_length"]
    assert batch["item_id_list"].shape == batch[TARGETS].shape == (len(train.windows), 8)
    assert batch[TARGETS].dtype == batch["item_id_list"].dtype == lengths.dtype == torch.int64
    behind = torch.arange(8) >= lengths[:, None]
    assert ((batch["item_id_list"] == 0) == behind).all()
    assert ((batch[TARGETS] == 0) == behind).all()
    assert (lengths < 8).any()
    assert target_list_field(train.config) == TARGETS


def test_rows_that_do_not_follow_each_other_start_new_windows():
    train = ours("all", **SMALL).build()[0]
    user = train.inter_feat["user_id"] == train.inter_feat["user_id"][0]
    rows = torch.arange(len(user))[user]
    positions = train.inter_feat["__position__"][rows]
    order = positions.argsort()
    kept = rows[order][[10, 11, 12, 20, 21]]  # as if other interactions were held out
    odd = train.copy(train.inter_feat[kept])
    assert odd.windows is None
    odd._cut_windows()
    batch = all_windows(odd)
    assert len(odd.windows) == 2
    assert (batch[TARGETS] != 0).sum(1).tolist() == [3, 2]
    all_rows = everything(ours(**SMALL).build()[0])
    for row, expected in zip(range(2), (kept[2], kept[4])):  # the history is that of the last row, in full
        assert torch.equal(batch["item_id_list"][row], all_rows["item_id_list"][expected])
        assert batch[TARGETS][row][batch["item_length"][row] - 1] == all_rows["item_id"][expected]
    held_out = all_rows["item_id"][rows[order][13:20]]
    assert not torch.isin(batch[TARGETS], held_out).any()


def test_counts_of_windowed_data_are_those_of_its_rows():
    windowed, plain = ours("all", **SMALL).build()[0], ours(**SMALL).build()[0]
    assert len(windowed.windows) < len(windowed) == len(plain)
    assert windowed.inter_num == plain.inter_num
    assert windowed.item_counter == plain.item_counter
    assert windowed.avg_actions_of_items == plain.avg_actions_of_items
    assert windowed.sparsity == plain.sparsity
    assert (windowed.inter_matrix("csr") != plain.inter_matrix("csr")).nnz == 0


# Loaders


@pytest.mark.parametrize("train_positions", ["all", "last"])
def test_training_batches_hold_each_row_once(train_positions):
    keys = {**SMALL, "user_inter_num_interval": "[200,inf)"}
    dataset = ours(train_positions, **keys, model="SASRecSCE", train_batch_size=128)
    train_data, _, _ = data_preparation(dataset.config, dataset)
    seen = [batch[TARGETS if train_positions == "all" else "item_id"] for batch in train_data]
    items = torch.cat([column[column != 0] for column in seen])
    assert torch.equal(items.sort().values, train_data.dataset.inter_feat["item_id"].long().sort().values)


def test_loaders_number_rows_in_a_range():
    dataset = ours("last", **SMALL)
    for loader in data_preparation(dataset.config, dataset):
        assert vars(loader)["dataset"] == range(len(loader.dataset))  # what torch samples from


def test_a_row_number_of_a_data_set_with_windows_means_a_row():
    windowed, plain = ours("all", **SMALL).build()[0], ours(**SMALL).build()[0]
    assert len(windowed) == len(windowed.inter_feat) == len(plain)
    assert_same_batch(everything(windowed), everything(plain))


@pytest.mark.parametrize("train_positions", ["all", "last"])
def test_a_cut_batch_is_the_full_one_without_columns_of_padding(train_positions):
    train = ours(train_positions, **SMALL).build()[0]
    lengths, n_targets = train.training_sizes()
    rows = np.flatnonzero(lengths < 40)
    longest = lengths[rows].max()
    full, cut = (train.training_batch(rows, cut=cut) for cut in (False, True))
    assert 1 < longest < 50
    assert set(full) == set(cut)
    for field in full:
        sequence = field in ("item_id_list", TARGETS)
        assert torch.equal(cut[field], full[field][:, :longest] if sequence else full[field]), field
    if train_positions == "all":
        assert torch.equal((full[TARGETS] > 0).sum(1), torch.from_numpy(n_targets[rows]))


def evaluation_batches(dataset):
    np.random.seed(0)  # noqa: NPY002  (RecBole's samplers draw from it)
    _, valid_data, test_data = data_preparation(dataset.config, dataset)
    return [batch for loader in (valid_data, test_data) for batch in loader]


@pytest.mark.parametrize("mode", ["uni20", "pop20", "full"])
def test_evaluation_batches_are_recboles(mode):
    keys = {
        **SMALL,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": mode},
        "load_col": CASES["features"]["load_col"],
    }
    batches, expected = evaluation_batches(ours("all", **keys)), evaluation_batches(recboles(**keys))
    assert len(batches) == len(expected) > 0
    for (batch, *rest), (reference, *reference_rest) in zip(batches, expected):
        assert_same_batch(batch, reference, but=["rating_list", "timestamp_list"])
        for value, other in zip(rest, reference_rest):
            assert torch.equal(value, other) if torch.is_tensor(other) else value is other is None


def test_negative_items_of_training_are_joined():
    keys = {
        **SMALL,
        "loss_type": "BPR",
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False},
        "load_col": CASES["features"]["load_col"],
        "shuffle": False,
    }
    batches = []
    for dataset in (ours(**keys), recboles(**keys)):
        np.random.seed(0)  # noqa: NPY002
        batches.append(next(iter(data_preparation(dataset.config, dataset)[0])))
    assert "neg_class" in batches[0]
    assert_same_batch(*batches, but=["rating_list", "timestamp_list"])


# Saving


def test_a_saved_data_set_is_loaded_and_split_the_same(tmp_path, monkeypatch):
    keys = {**SMALL, "model": "SASRecSCE", "checkpoint_dir": str(tmp_path / "saved")}
    first = create_dataset(config_of(**keys, save_dataset=True))
    assert isinstance(first, IndexedSequenceDataset)
    with monkeypatch.context() as patch:
        patch.setattr(IndexedSequenceDataset, "_load_data", None)  # nothing is read anew
        again = create_dataset(config_of(**keys))
    assert again is not first
    for part, reference in zip(again.build(), first.build()):
        assert_same_batch(everything(part), everything(reference))


def test_saved_loaders_give_the_same_batches(tmp_path):
    keys = {**SMALL, "model": "SASRecSCE", "checkpoint_dir": str(tmp_path / "saved")}
    config = config_of(**keys, save_dataloaders=True)
    saved = data_preparation(config, create_dataset(config))
    files = list((tmp_path / "saved").glob("*-dataloader.pth"))
    assert len(files) == 1
    config = config_of(**keys)
    loaded = data_preparation(config, create_dataset(config))
    for loader, reference in zip(loaded, saved):
        assert loader is not reference
        assert len(loader.dataset) == len(reference.dataset)
        assert_same_batch(loader.dataset[np.arange(9)], reference.dataset[np.arange(9)])
    # other training positions, other loaders
    config = config_of(**keys, train_positions="last")
    other = data_preparation(config, create_dataset(config))
    assert other[0].dataset.windows is None


def test_parts_share_one_log_also_when_pickled():
    parts = ours("all", **SMALL).build()
    assert len({id(part.log["item_id"]) for part in parts}) == 1
    again = pickle.loads(pickle.dumps(parts))
    assert len({part.log["item_id"].data_ptr() for part in again}) == 1


# Benchmark files


@pytest.fixture
def benchmark(tmp_path):
    """Prepared histories of at most 5 items in three files, users mixed, and how to read them."""
    rng = np.random.default_rng(0)
    parts = {"train": [], "valid": [], "test": []}
    for user in range(12):
        items = [f"i{item}" for item in rng.permutation(40)[: rng.integers(4, 14)]]
        for k in range(1, len(items)):
            part = "test" if k == len(items) - 1 else "valid" if k == len(items) - 2 else "train"
            parts[part].append((k, f"u{user}\t{items[k]}\t{' '.join(items[max(0, k - 5) : k])}"))
    folder = tmp_path / "data" / "prepared"
    folder.mkdir(parents=True)
    for part, rows in parts.items():
        lines = ["user_id:token\titem_id:token\titem_id_list:token_seq", *(line for _, line in sorted(rows))]
        (folder / f"prepared.{part}.inter").write_text("\n".join(lines) + "\n")
    return {
        "dataset": "prepared",
        "data_path": str(tmp_path / "data"),
        "load_col": {"inter": ["user_id", "item_id", "item_id_list"]},
        "benchmark_filename": ["train", "valid", "test"],
        "alias_of_item_id": ["item_id_list"],
    }


def test_interactions_of_a_user_are_counted_before_any_split():
    dataset, reference = ours("all", **SMALL), recboles(**SMALL)
    expected = reference.inter_num / (reference.user_num - 1)
    assert dataset.interactions_per_user == expected
    assert [part.interactions_per_user for part in dataset.build()] == [expected] * 3


def test_interactions_of_a_user_of_benchmark_files_are_more_than_a_cut_history_holds(benchmark):
    dataset = ours(**benchmark)
    targets = defaultdict(set)
    for user, item in zip(dataset.inter_feat["user_id"], dataset.inter_feat["item_id"]):
        targets[user].add(item)  # every item of a user but the first is a target
    assert max(map(len, targets.values())) > 6
    expected = np.mean([len(items) + 1 for items in targets.values()])
    assert dataset.interactions_per_user == pytest.approx(expected)


def test_interactions_of_a_user_of_benchmark_files_with_few_rows_are_its_history_and_target(benchmark):
    dataset = ours(**{**benchmark, "benchmark_filename": ["test", "test", "test"]})
    lengths = np.asarray(dataset.inter_feat["item_length"])[:12]
    assert dataset.interactions_per_user == pytest.approx(np.mean(lengths) + 1)


def test_benchmark_files_give_recboles_rows(benchmark):
    dataset, reference = ours(**benchmark), recboles(**benchmark)
    for part, expected in zip(dataset.build(), reference.build()):
        assert_same_batch(everything(part), everything(expected))
        assert part.item_counter == expected.item_counter
        assert (part.inter_matrix("csr") != expected.inter_matrix("csr")).nnz == 0


def test_windows_of_benchmark_files_train_each_row_once(benchmark):
    train = ours("all", **benchmark).build()[0]
    expected = pairs_by_user(recboles(**benchmark).build()[0])
    windows = windows_by_user(train)
    assert len(train.windows) < len(train) == len(train.inter_feat)
    assert windows.keys() == expected.keys()
    for user, pairs in expected.items():
        assert [pair for window in windows[user] for pair in window] == pairs


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"load_col": {"inter": ["user_id", "item_id"]}}, r"prepared\.train\.inter.*'item_id_list'"),
        ({"alias_of_item_id": None}, "alias_of_item_id must name 'item_id_list'"),
        (
            {"MAX_ITEM_LIST_LENGTH": 4},
            "MAX_ITEM_LIST_LENGTH must be at least 5, got 4: so many items has 'item_id_list'",
        ),
    ],
)
def test_benchmark_files_that_do_not_fit_are_refused(benchmark, keys, message):
    with pytest.raises(ValueError, match=message):
        ours(**{**benchmark, **keys})


# What cannot work


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        ("", {}, r"bad\.inter: '' in the first line is not name:type"),
        ("user_id:token\titem_id:token\ttimestamp:float\n", {}, r"bad\.inter: no interaction"),
        ("user_id:token\titem_id:token\nu\ti\n", {}, r"bad\.inter: column 'timestamp' \(TIME_FIELD\)"),
        (
            "user_id:token\titem_id:token\ttimestamp:token\nu\ti\t3\n",
            {},
            "'timestamp' .* must be of type float",
        ),
        ("user_id:token\ttimestamp:float\nu\t3\n", {}, r"column 'item_id' \(ITEM_ID_FIELD\)"),
        (
            "user_id:token\titem_id:token\ttimestamp:float\nu\ti\t3\n",
            {"load_col": {"inter": ["user_id", "item_id"]}},
            r"'timestamp' \(TIME_FIELD\) is not loaded.*load_col is \{'inter': \['user_id', 'item_id'\]\}",
        ),
        (
            "user_id:token\titem_id:token\ttimestamp:float\nu\ti\t3\n",
            {"TIME_FIELD": None},
            "TIME_FIELD is not set",
        ),
        (
            "user_id:token\titem_id:token\ttimestamp:float\nu\ti\t3\n",
            {"user_inter_num_interval": "[2,inf)"},
            "bad: no interaction is left by the filters",
        ),
    ],
)
def test_bad_files_are_named(tmp_path, text, keys, message):
    folder = tmp_path / "data" / "bad"
    folder.mkdir(parents=True)
    (folder / "bad.inter").write_text(text)
    load_col = {"inter": ["user_id", "item_id", "timestamp"]}
    with pytest.raises(ValueError, match=message):
        ours(**{"dataset": "bad", "data_path": str(tmp_path / "data"), "load_col": load_col, **keys})


def test_users_with_one_interaction_are_nothing_to_learn_from(tmp_path):
    folder = tmp_path / "data" / "single"
    folder.mkdir(parents=True)
    (folder / "single.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu\ti\t3\nv\ti\t3\n")
    load_col = {"inter": ["user_id", "item_id", "timestamp"]}
    dataset = ours(dataset="single", data_path=str(tmp_path / "data"), load_col=load_col)
    with pytest.raises(ValueError, match="single: no user has more than one interaction"):
        dataset.build()


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="train_positions must be auto, all or last, got 'middle'"):
        ours("middle")
    with pytest.raises(
        ValueError, match="train_positions must be last with transform crop_itemseq, got 'all'"
    ):
        ours("all", transform="crop_itemseq")
    with pytest.raises(ValueError, match="'first' is not one of valid_and_test, valid_only, test_only"):
        ours(**split("LS", "first")).build()


def test_unknown_columns_are_not_counted():
    part = ours(**SMALL).build()[0]
    with pytest.raises(ValueError, match="'mood' is not a column"):
        part.counter("mood")
    with pytest.raises(ValueError, match="'rating' is not of type token"):
        part.counter("rating")
    with pytest.raises(ValueError, match="value_field 'mood' is not a column"):
        part.history_item_matrix(value_field="mood")
