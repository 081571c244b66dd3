"""Data sets: missing values, the order of interactions, downloads."""

from __future__ import annotations

import http.server
import io
import os
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.dataset import dataset as dataset_module

from recbole_sce.compat import datasets

Without = Callable[[Any, str], None]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])


def write(folder: Path, name: str, rows: list[tuple[object, ...]], suffix: str = "inter") -> None:
    """Write an atomic file; the first row is its header."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(str(cell) for cell in row) + "\n" for row in rows]
    (folder / name / f"{name}.{suffix}").write_text("".join(lines), encoding="utf-8")


class TestMissingValues:
    @pytest.fixture
    def incomplete(self, tmp_path: Path) -> dict[str, Any]:
        """Items with gaps; item c has no features at all."""
        items = [("item_id:token", "kind:token", "price:float", "tags:token_seq")]
        items += [("a", "x", 1.0, "p q"), ("b", "", "", ""), ("c", "y", 3.0, "q")]
        inter = [("user_id:token", "item_id:token", "rating:float")]
        inter += [("u", "a", 5.0), ("u", "b", ""), ("v", "c", 1.0), ("v", "a", 3.0)]
        write(tmp_path, "gaps", items, "item")
        write(tmp_path, "gaps", inter)
        return {"data_path": str(tmp_path), "load_col": None}

    @pytest.fixture
    def copy_on_write(self, monkeypatch: pytest.MonkeyPatch, without: Without) -> Iterator[None]:
        """Have pandas behave as pandas 3, and RecBole be as it is."""
        for name in ("_fill_nan", "_load_feat", "_dataframe_to_interaction"):
            without(Dataset, name)
        without(dataset_module, "pd")
        is_pandas_2 = int(pd.__version__.split(".")[0]) < 3
        with pd.option_context("mode.copy_on_write", True) if is_pandas_2 else nullcontext():
            yield

    @staticmethod
    def features(settings: dict[str, Any]) -> dict[str, list[Any]]:
        dataset = create_dataset(Config("BPR", "gaps", config_dict=settings))
        dataset._change_feat_format()
        columns = {field: dataset.item_feat[field].tolist() for field in ("kind", "price", "tags")}
        return {**columns, "rating": dataset.inter_feat["rating"].tolist()}

    @pytest.mark.usefixtures("copy_on_write")
    @pytest.mark.filterwarnings("error:.*(set on a copy|not writable)")
    def test_are_filled_as_recbole_means_it(self, incomplete: dict[str, Any]) -> None:
        assert datasets.missing_values()
        columns = self.features(incomplete)
        assert columns["rating"] == [5, 3, 1, 3]  # the mean of 5, 1 and 3
        assert columns["price"] == [2, 1, 2, 3]  # the padding item's and b's: the mean of 1 and 3
        assert columns["kind"] == [0, 1, 0, 2]
        assert columns["tags"] == [[0, 0], [1, 2], [0, 0], [2, 0]]

    @pytest.mark.usefixtures("copy_on_write")
    @pytest.mark.filterwarnings("ignore")
    def test_are_not_without_the_patch(self, incomplete: dict[str, Any]) -> None:
        with pytest.raises(AttributeError):  # an empty sequence is no string
            self.features(incomplete)
        incomplete["unload_col"] = {"item": ["tags"]}
        dataset = create_dataset(Config("BPR", "gaps", config_dict=incomplete))
        dataset._change_feat_format()
        assert dataset.item_feat["price"].isnan().any()
        assert dataset.item_feat["kind"][0] < 0

    @pytest.mark.skipif(pd.__version__ >= "3", reason="pandas 3 always copies on write")
    def test_need_no_patch_where_recbole_fills_them(self) -> None:
        assert not datasets.missing_values()


class TestLengthsOfSequences:
    @pytest.fixture(autouse=True)
    def _aggregating_pandas(self, monkeypatch: pytest.MonkeyPatch, without: Without) -> None:
        """Have pandas hand the whole series to the function, as pandas 3 does, and RecBole be as it is."""
        without(Dataset, "_data_processing")
        without(SequentialDataset, "_benchmark_presets")
        monkeypatch.setattr(pd.Series, "agg", lambda self, func: func(self))

    @staticmethod
    def sequences(folder: Path) -> tuple[list[Any], list[Any]]:
        """Return the tags of the items and, of a benchmark, the lengths of the histories."""
        items = [("item_id:token", "tags:token_seq"), ("a", "p q r"), ("b", "q")]
        write(folder, "sets", items, "item")
        write(folder, "sets", [("user_id:token", "item_id:token"), ("u", "a"), ("u", "b")])
        header = ("user_id:token", "item_id_list:token_seq", "item_id:token")
        for part in ("train", "valid", "test"):
            write(folder, "sets", [header, ("u", "a", "b"), ("v", "a b a", "b")], f"{part}.inter")
        settings: dict[str, Any] = {"data_path": str(folder), "load_col": None}
        dataset = create_dataset(Config("BPR", "sets", config_dict=settings))
        tags = [list(seq) for seq in dataset.item_feat["tags"]]
        settings.update(
            benchmark_filename=["train", "valid", "test"],
            alias_of_item_id=["item_id_list"],
            train_neg_sample_args=None,
        )
        benchmark = create_dataset(Config("SASRec", "sets", config_dict=settings))
        return tags, list(benchmark.inter_feat["item_length"])

    def test_are_one_an_element(self, tmp_path: Path) -> None:
        pandas_agg = pd.Series.agg
        assert datasets.lengths_of_sequences()
        assert self.sequences(tmp_path) == ([[], [1, 2, 3], [2]], [1, 3, 1, 3, 1, 3])
        assert pd.Series.agg is pandas_agg

    def test_are_not_without_the_patch(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="Length of values"):
            self.sequences(tmp_path)

    def test_need_no_patch_where_pandas_gives_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pd.Series, "agg", lambda self, func: self.map(func))
        assert not datasets.lengths_of_sequences()


class TestTimeOrder:
    @staticmethod
    def shuffled_log(folder: Path, step: int, start: int) -> dict[str, list[str]]:
        """Write 20 users' items, in pairs ``step`` seconds apart; return each user's items in order."""
        rng = np.random.default_rng(0)
        rows = []
        for user in range(20):
            rows += [(f"u{user}", f"i{k}", start + step * (k // 2)) for k in range(12)]
        rows = [rows[i] for i in rng.permutation(len(rows))]
        write(folder, "log", [("user_id:token", "item_id:token", "timestamp:float"), *rows])
        ordered: dict[str, list[str]] = {}
        for user, item, _ in sorted(rows, key=lambda row: row[2]):
            ordered.setdefault(user, []).append(item)
        return ordered

    @staticmethod
    def sequential(folder: Path) -> SequentialDataset:
        settings = {
            "data_path": str(folder),
            "load_col": None,
            "train_neg_sample_args": None,
            "MAX_ITEM_LIST_LENGTH": 20,
        }
        dataset = create_dataset(Config("SASRec", "log", config_dict=settings))
        dataset._change_feat_format()
        return dataset

    @staticmethod
    def histories(dataset: SequentialDataset) -> dict[str, list[str]]:
        feat, by_user = dataset.inter_feat, {}
        for row in range(len(feat)):
            history = feat["item_id_list"][row, : feat["item_length"][row]].tolist()
            user = dataset.id2token("user_id", int(feat["user_id"][row]))
            # the last row of a user has the whole history
            by_user[user] = dataset.id2token("item_id", [*history, int(feat["item_id"][row])]).tolist()
        return by_user

    def test_is_exact_and_ties_keep_the_files_order(self, tmp_path: Path) -> None:
        expected = self.shuffled_log(tmp_path, step=30, start=1_600_000_000)
        assert self.histories(self.sequential(tmp_path)) == expected

    def test_is_not_without_the_patch(self, tmp_path: Path, without: Without) -> None:
        expected = self.shuffled_log(tmp_path, step=30, start=1_600_000_000)
        without(Dataset, "_change_feat_format")
        histories = self.histories(self.sequential(tmp_path))
        assert sum(histories[user] != expected[user] for user in expected) > 10

    def test_nothing_changes_where_nothing_was_rounded(self, tmp_path: Path, without: Without) -> None:
        self.shuffled_log(tmp_path, step=1, start=0)
        patched = self.sequential(tmp_path).inter_feat
        without(Dataset, "_change_feat_format")
        plain = self.sequential(tmp_path).inter_feat
        assert all(torch.equal(patched[field], plain[field]) for field in plain)

    @pytest.mark.parametrize("order", ["TO", "RO"])
    def test_of_other_data_sets_changes_if_they_are_ordered_by_time(self, tmp_path: Path, order: str) -> None:
        self.shuffled_log(tmp_path, step=30, start=1_600_000_000)
        args = {"order": order, "split": {"RS": [8, 1, 1]}, "group_by": "user", "mode": "full"}
        columns = {"inter": ["user_id", "item_id", "timestamp"]}
        settings = {"data_path": str(tmp_path), "load_col": columns, "eval_args": args}
        dataset = create_dataset(Config("BPR", "log", config_dict=settings))
        in_file = dataset.inter_feat["timestamp"].tolist()
        items = dataset.inter_feat["item_id"].tolist()
        dataset._change_feat_format()
        by_time = [item for _, item in sorted(zip(in_file, items), key=lambda pair: pair[0])]
        assert dataset.inter_feat["item_id"].tolist() == (by_time if order == "TO" else items)

    def test_leaves_the_parts_of_a_benchmark_alone(self, tmp_path: Path) -> None:
        header = ("user_id:token", "item_id_list:token_seq", "item_id:token", "timestamp:float")
        for part, time in (("train", 30), ("valid", 20), ("test", 10)):
            write(tmp_path, "log", [header, ("u", "a b", part, time)], f"{part}.inter")
        dataset = create_dataset(
            Config(
                "SASRec",
                "log",
                config_dict={
                    "data_path": str(tmp_path),
                    "benchmark_filename": ["train", "valid", "test"],
                    "alias_of_item_id": ["item_id_list"],
                    "load_col": None,
                    "train_neg_sample_args": None,
                },
            )
        )
        parts = dataset.build()
        tokens = [part.id2token("item_id", int(part.inter_feat["item_id"])) for part in parts]
        assert tokens == ["train", "valid", "test"]


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content`` at every path, and claims that it has ``claimed`` bytes."""

    content: bytes = b""
    claimed: int = 0
    status: int = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/Some_Log.zip"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.claimed))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *args: object) -> None:
        pass


class TestDownload:
    @pytest.fixture
    def server(self) -> Iterator[Server]:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("Some_Log.inter", "user_id:token\titem_id:token\nu\ta\nu\tb\nv\ta\n")
        server = Server(("127.0.0.1", 0), Handler)
        server.content = packed.getvalue()
        server.claimed = len(server.content)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        server.server_close()

    @pytest.fixture(autouse=True)
    def _known_url(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if "server" in request.fixturenames:
            url = request.getfixturevalue("server").url
            monkeypatch.setattr(Dataset, "_get_download_url", lambda self, url_file, allow_none=False: url)

    @staticmethod
    def load(name: str = "some-log") -> Dataset:
        return create_dataset(Config("BPR", name, config_dict={"data_path": "data", "load_col": None}))

    def test_the_first_run_has_the_data(self, server: Server) -> None:
        assert self.load().inter_num == 3
        assert os.listdir("data") == ["some-log"]
        assert os.listdir("data/some-log") == ["some-log.inter"]
        server.status = 404
        assert self.load().inter_num == 3  # and the second asks no server

    def test_the_first_run_dies_without_the_patch(self, server: Server, without: Without) -> None:
        without(Dataset, "_download")
        without(dataset_module, "torch")
        with pytest.raises((ValueError, RuntimeError), match="process group"):
            self.load()

    @pytest.mark.parametrize("fault", ["not found", "cut off", "no zip"])
    def test_a_failed_download_leaves_nothing_and_says_what_to_do(self, server: Server, fault: str) -> None:
        whole = server.content
        if fault == "not found":
            server.status = 404
        else:
            server.content = whole[: len(whole) // 2] if fault == "cut off" else b"sorry"
        with pytest.raises(FileNotFoundError) as error:
            self.load()
        path = os.path.join(os.getcwd(), "data")
        for part in ("'some-log'", f"{path}/some-log/some-log.inter", f"data_path: {path}", server.url):
            assert part in str(error.value)
        assert not os.path.exists("data") or os.listdir("data") == []
        server.status, server.content = 200, whole
        assert self.load().inter_num == 3

    def test_a_failed_download_spoils_the_next_run_without_the_patch(
        self, server: Server, without: Without
    ) -> None:
        whole, server.content = server.content, b"sorry"
        for name in ("_download", "_load_data"):
            without(Dataset, name)
        with pytest.raises(zipfile.BadZipFile):
            self.load()
        server.content = whole
        with pytest.raises(ValueError, match="not exist"):
            self.load()

    def test_an_empty_folder_counts_as_none(self, server: Server) -> None:
        os.makedirs("data/some-log")
        assert self.load().inter_num == 3

    def test_without_network_the_error_says_what_to_download(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/ml-1m.zip"
        monkeypatch.setattr(Dataset, "_get_download_url", lambda self, url_file, allow_none=False: url)
        with pytest.raises(FileNotFoundError, match=r"'ml-1m'.*refused.*Download http.*ml-1m\.zip yourself"):
            self.load("ml-1m")
        assert not os.path.exists("data/ml-1m")

    def test_an_unknown_name_gets_near_ones(self, tmp_path: Path) -> None:
        write(tmp_path / "data", "ml-our-own", [("user_id:token", "item_id:token"), ("u", "a")])
        with pytest.raises(ValueError, match="ml1m") as error:
            self.load("ml1m")
        assert "Did you mean ml-1m" in str(error.value)
        assert f"{tmp_path}/data/ml1m/ml1m.inter" in str(error.value)
        with pytest.raises(ValueError, match="Did you mean ml-our-own"):
            self.load("ml_our_own")

    def test_an_unknown_name_gets_no_hint_without_the_patch(self, without: Without) -> None:
        without(Dataset, "_get_download_url")
        with pytest.raises(ValueError, match="Neither") as error:
            self.load("ml1m")
        assert "ml-1m" not in str(error.value)
