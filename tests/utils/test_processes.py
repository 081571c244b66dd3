"""Several processes, as torchrun starts them, against one: what they train, what they find, what is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from logs import write_log
from recbole.quick_start import load_data_and_model
from recbole.trainer import Trainer
from torch import Tensor

from recbole_sce.utils import processes
from recbole_sce.utils.processes import Layout, LayoutError

SCRIPT = Path(__file__).with_name("processes_script.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}

METRICS = ["Recall", "MRR", "NDCG", "Hit", "MAP", "Precision", "GAUC", "ItemCoverage", "AveragePopularity"]
METRICS += ["ShannonEntropy", "GiniIndex", "TailPercentage"]
SMALL = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "MAX_ITEM_LIST_LENGTH": 10,
    "state": "ERROR",
    "hidden_size": 16,
    "inner_size": 16,
    "n_layers": 1,
    "n_heads": 1,
    "embedding_size": 16,
    "epochs": 3,
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
    "show_progress": False,
    "metrics": METRICS,
    "metric_decimal_place": 8,
    "train_batch_size": 10_000,
    "eval_batch_size": 50,
}
#: Without chance: dropout is 0, a batch is all data, the one bucket holds every state and item.
RUNS: dict[str, dict[str, Any]] = {
    "all positions": {"model": "SASRecSCE", "loss_type": "CE", "learner": "sgd", "learning_rate": 1.0},
    "later targets": {
        "model": "GRU4RecSCE",
        "loss_type": "CE",
        "target_discount": 0.4,
        "learner": "sgd",
        "learning_rate": 1.0,
        "dropout_prob": 0.0,
    },
    "one bucket": {"model": "SASRecSCE", "n_buckets": 1, "bucket_size_x": 10_000, "bucket_size_y": 1000},
    "recboles": {"model": "SASRec", "train_neg_sample_args": None, "learner": "sgd", "learning_rate": 1.0},
    "users": {"model": "BPR", "train_batch_size": 300},
}
RUNS["one bucket"]["sparse_item_updates"] = True
_GOES_ON = {
    "model": "SASRecSCE",
    "hidden_dropout_prob": 0.3,
    "train_batch_size": 20,
    "bucket_size_y": 4,
    "n_outside": 3,
}
RUNS["whole"] = {**_GOES_ON, "checkpoint_dir": "whole"}
RUNS["cut off"] = {**_GOES_ON, "checkpoint_dir": "cut", "epochs": 1}
RUNS["resumed"] = {**_GOES_ON, "checkpoint_dir": "cut", "resume": "auto"}
WITHOUT_CHANCE = ["all positions", "later targets", "one bucket", "recboles"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SimpleNamespace]]:
    """Return the notes of :data:`RUNS` by name: of process 0, of process 1, and of one ``alone``."""
    try:
        torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False, use_libuv=True)
    except RuntimeError as error:
        pytest.skip(f"the torchrun of this torch does not start ({error})")
    folder, alone = (tmp_path_factory.mktemp(name) for name in ("together", "alone"))
    # an odd number of users to evaluate, an even one of windows to train
    write_log(folder / "data", "tiny", n_users=61)
    arguments = {
        name: {
            "model": settings["model"],
            "dataset": "tiny",
            "config_dict": {**SMALL, "data_path": str(folder / "data"), **settings},
        }
        for name, settings in RUNS.items()
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    started = []
    for start, where in ((torchrun, folder), ([sys.executable], alone)):
        (where / "runs.json").write_text(json.dumps(arguments))
        started.append(subprocess.Popen([*start, str(SCRIPT)], cwd=where, env=ENVIRONMENT))
    assert [process.wait(timeout=600) for process in started] == [0, 0]
    notes = {
        name: SimpleNamespace(
            first=load(folder / f"{name}-0.pt"),
            second=load(folder / f"{name}-1.pt"),
            alone=load(alone / f"{name}-alone.pt"),
        )
        for name in RUNS
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["pytest"])
        yield notes


def load(path: Path) -> SimpleNamespace:
    return SimpleNamespace(**torch.load(path, weights_only=False))


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.slow
class TestRuns:
    @pytest.mark.parametrize("name", WITHOUT_CHANCE)
    def test_train_what_one_process_trains(self, runs: dict[str, SimpleNamespace], name: str) -> None:
        first, alone = runs[name].first, runs[name].alone
        assert len(alone.samples[0]) == 2 * len(first.samples[0])  # none is repeated
        assert difference(first.trained, alone.trained) < 1e-6
        assert list(first.losses) == [0, 1, 2]
        if name != "recboles":  # RecBole logs what the first process has lost
            assert list(first.losses.values()) == pytest.approx(list(alone.losses.values()), abs=1e-5)
        assert alone.losses[2] < alone.losses[0]

    @pytest.mark.parametrize("name", WITHOUT_CHANCE)
    def test_find_what_one_process_finds(self, runs: dict[str, SimpleNamespace], name: str) -> None:
        assert len(runs[name].alone.results) == 4  # three epochs and a test
        for together, alone in zip(runs[name].first.results, runs[name].alone.results):
            assert len(alone) == len(METRICS)
            assert together == pytest.approx(alone, abs=1e-7)

    @pytest.mark.parametrize("name", RUNS)
    def test_agree_with_each_other(self, runs: dict[str, SimpleNamespace], name: str) -> None:
        first, second = runs[name].first, runs[name].second
        for of_both in ("fit", "results", "file"):
            assert getattr(first, of_both) == getattr(second, of_both)
        assert difference(first.trained, second.trained) == 0
        assert difference(first.tested, second.tested) == 0
        assert first.returned["test_result"] == first.results[-1]
        assert second.returned is None

    @pytest.mark.parametrize("name", [name for name in RUNS if name != "cut off"])  # "resumed" has its file
    def test_leave_one_checkpoint_for_one_process(self, runs: dict[str, SimpleNamespace], name: str) -> None:
        notes = runs[name].first
        _, model, _, train, _, test = load_data_and_model(notes.file)
        config = train.config
        assert config["single_spec"]
        trainer = Trainer(config, model)
        trainer.eval_collector.data_collect(train)
        assert trainer.evaluate(test, load_best_model=False) == pytest.approx(notes.results[-1], abs=1e-7)
        assert difference(notes.tested, model.state_dict()) == 0

    def test_go_on_where_they_were(self, runs: dict[str, SimpleNamespace]) -> None:
        for process in ("first", "second", "alone"):
            whole, resumed, cut = (getattr(runs[name], process) for name in ("whole", "resumed", "cut off"))
            assert len(cut.samples) == 1
            assert len(resumed.samples) == 2
            assert resumed.file == cut.file
            assert resumed.fit == whole.fit
            assert difference(resumed.trained, whole.trained) == 0
            assert difference(resumed.trained, cut.trained) > 0
            assert resumed.results[-1] == whole.results[-1]

    def test_share_the_data_anew_in_each_epoch(self, runs: dict[str, SimpleNamespace]) -> None:
        notes = runs["users"]
        n_samples = len(notes.alone.samples[0])
        for first, second in zip(notes.first.samples, notes.second.samples):
            assert len(first) == len(second)
            assert set(first) | set(second) == set(range(n_samples))
            assert len(set(first) & set(second)) <= 1  # of an odd number one is repeated
        assert notes.first.samples[0] != notes.first.samples[1]
        assert notes.first.batch_size == notes.alone.batch_size // 2

    def test_may_have_states_in_different_numbers(self, runs: dict[str, SimpleNamespace]) -> None:
        notes = runs["all positions"]
        _, model, _, train, _, _ = load_data_and_model(notes.first.file)
        shares = [
            int((train._dataset.training_batch(samples.samples[0])[model.TARGET_SEQ] != 0).sum())
            for samples in (notes.first, notes.second)
        ]
        assert abs(shares[0] - shares[1]) > 20  # else the weights would not show


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0, 1), "nproc must be a whole number of at least 1, got 0"),
        (("2", 2), "nproc must be a whole number of at least 1, got '2'"),
        ((True, 1), "nproc must be a whole number of at least 1, got True"),
        ((2, 1), r"world_size must be at least group_offset \+ nproc = 2, got 1"),
        ((2, 3, 2), r"world_size must be at least group_offset \+ nproc = 4, got 3"),
        ((1, 1, -1), "group_offset must be a whole number of at least 0, got -1"),
        ((1, 1, 0, "localhost", "http"), "port must be a number from 1 to 65535, got 'http'"),
        ((1, 1, 0, "localhost", 0), "port must be a number from 1 to 65535, got 0"),
    ],
)
def test_processes_that_cannot_be_are_named(values: tuple[Any, ...], text: str) -> None:
    with pytest.raises(LayoutError, match=text):
        Layout(*values)


class TestTorchWithoutLibuv:
    """Debian's, whose message this is: a store needs USE_LIBUV=0 there."""

    @pytest.fixture
    def meetings(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        tried: list[str] = []

        def rendezvous(address: str, *_: object, **__: object) -> Iterator[str]:
            tried.append(address)
            if address == "tcp://nobody:1":
                raise RuntimeError("The client socket has timed out")
            if os.environ.get("USE_LIBUV") != "0":
                raise RuntimeError("use_libuv was requested but PyTorch was built without libuv support")
            yield "store"

        monkeypatch.setenv("USE_LIBUV", "1")
        monkeypatch.setattr(processes, "rendezvous", rendezvous)
        return tried

    def test_processes_meet_by_the_other_store(self, meetings: list[str]) -> None:
        assert processes._meet("tcp://here:1", 0, 2) == "store"
        assert meetings == ["tcp://here:1"] * 2

    def test_other_errors_are_told(self, meetings: list[str]) -> None:
        with pytest.raises(RuntimeError, match="timed out"):
            processes._meet("tcp://nobody:1", 0, 2)
        assert meetings == ["tcp://nobody:1"]


def test_workers_of_the_suite_share_nothing_with_this_file(request: pytest.FixtureRequest) -> None:
    """Else the fixtures of the file, which train, would be made in each of them."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("one process runs the suite")
    assert request.node.nodeid.endswith("@processes")
