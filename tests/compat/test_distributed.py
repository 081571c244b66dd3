"""What RecBole does in each of several processes: here in a group of one, or in none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from logs import write_log
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import Dataset
from recbole.model.general_recommender import BPR
from recbole.trainer import Trainer
from recbole.utils import ensure_dir
from recbole.utils import utils as recbole_utils
from torch.utils.data.distributed import DistributedSampler

from recbole_sce.compat.distributed import check_gpus, order_of_shards
from recbole_sce.compat.launch import _free_port
from recbole_sce.utils import processes

LABELS = {
    "metrics": ["AUC", "LogLoss"],
    "valid_metric": "AUC",
    "threshold": {"rating": 3},
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
}


@pytest.fixture
def of_one(tiny_dataset: dict[str, Any]) -> Iterator[Callable[..., Config]]:
    """Return ``config(model, **settings)``, which joins a group of one process; it is left at the end."""

    def config(model: str, **settings: Any) -> Config:
        place = {"nproc": 1, "world_size": 1, "offset": 0, "ip": "localhost", "port": _free_port()}
        return Config(model, "tiny", config_dict={**tiny_dataset, **place, "local_rank": 0, **settings})

    yield config
    if dist.is_initialized():
        dist.destroy_process_group()


@given(
    rows=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    world_size=st.integers(1, 7),
)
def test_shards_are_put_together_as_one_process_has_them(rows: list[int], world_size: int) -> None:
    collected = []
    for rank in range(world_size):
        samples = DistributedSampler(rows, num_replicas=world_size, rank=rank, shuffle=False)
        collected += [(sample, row) for sample in samples for row in range(rows[sample])]
    order = order_of_shards(torch.tensor(rows), world_size)
    assert [collected[place] for place in order.tolist()] == [
        (sample, row) for sample in range(len(rows)) for row in range(rows[sample])
    ]


@pytest.mark.parametrize(("gpu_id", "n_gpus"), [("0", 1), ("0,1", 1), ("", 0), ("0,1,2", 2)])
def test_a_process_without_a_gpu_is_refused(gpu_id: str, n_gpus: int) -> None:
    check_gpus("0,1,2", 3, 3)
    nproc = max(2, n_gpus + 1)
    with pytest.raises(ValueError, match=f"nproc must be at most .*, got {nproc}, with gpu_id '{gpu_id}'"):
        check_gpus(gpu_id, nproc, n_gpus)


@pytest.mark.parametrize("value", [0, "soon", True])
def test_an_impossible_time_to_wait_is_named(of_one: Callable[..., Config], value: object) -> None:
    with pytest.raises(
        ValueError, match=f"process_timeout must be a number of seconds above 0, got {value!r}"
    ):
        of_one("BPR", process_timeout=value)
    assert not dist.is_initialized()


def test_processes_use_the_cpu_where_there_is_no_gpu(of_one: Callable[..., Config]) -> None:
    config = of_one("BPR", use_gpu=False)
    assert config["device"] == torch.device("cpu")
    assert not config["single_spec"]
    assert dist.get_backend() == "gloo"
    assert processes.together()
    dist.destroy_process_group()
    assert not processes.together()


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_use_a_gpu_each_where_there_are_some(
    tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    joined: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", joined.append)
    monkeypatch.setattr(processes, "join", lambda *arguments: joined.append(arguments))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # RecBole sets it
    place = {"nproc": 2, "world_size": 4, "offset": 2, "ip": "10.0.0.1", "port": 5000, "local_rank": rank}
    config = Config(
        "BPR", "tiny", config_dict={**tiny_dataset, **place, "gpu_id": "4,5", "process_timeout": 9}
    )
    device = torch.device("cuda", rank)
    assert joined == [device, (processes.Layout(2, 4, 2, "10.0.0.1", 5000), rank, "nccl", 9)]
    assert config["device"] == device
    assert (config["single_spec"], config["local_rank"]) == (False, rank)
    assert (config["state"] == "error") == (rank == 1)


@pytest.mark.parametrize("mode", ["labeled", "uni5", "full"])
def test_metrics_of_a_group_are_those_of_one_process(of_one: Callable[..., Config], mode: str) -> None:
    split = {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": "user"}
    kind = LABELS if mode == "labeled" else {"metrics": ["AUC"], "valid_metric": "AUC"}
    if mode == "full":
        kind = {"metrics": ["Recall", "GAUC", "ItemCoverage"], "valid_metric": "Recall@10"}
    config = of_one("BPR", eval_args={**split, "mode": mode}, eval_batch_size=7, **kind)
    train, valid, _ = data_preparation(config, create_dataset(config))
    trainer = Trainer(config, BPR(config, train._dataset))
    trainer.eval_collector.data_collect(train)
    together = evaluated(trainer, valid)
    config["single_spec"] = True
    dist.destroy_process_group()
    assert evaluated(trainer, valid) == together
    assert len(together) == len(kind["metrics"])


def evaluated(trainer: Trainer, data: Any) -> Any:
    recbole_utils.init_seed(1, True)  # loaders draw candidates
    return trainer.evaluate(data, load_best_model=False)


def test_loaders_of_several_processes_are_neither_saved_nor_loaded(
    of_one: Callable[..., Config], tiny_dataset: dict[str, Any]
) -> None:
    alone = Config("BPR", "tiny", config_dict={**tiny_dataset, "save_dataloaders": True})
    data_preparation(alone, create_dataset(alone))
    assert os.listdir("saved") == ["tiny-for-BPR-dataloader.pth"]
    loaded, _, _ = data_preparation(alone, create_dataset(alone))
    config = of_one("BPR")
    train, _, _ = data_preparation(config, create_dataset(config))
    assert not isinstance(loaded.sampler, DistributedSampler)
    assert isinstance(train.sampler, DistributedSampler)
    config["save_dataloaders"] = True
    with pytest.raises(ValueError, match="save_dataloaders must be False with several processes, got True"):
        data_preparation(config, create_dataset(config))


def test_another_process_makes_the_folder_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: Callable[[Any, str], None]
) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.setattr(os.path, "exists", lambda path: False)  # what RecBole sees just before
    ensure_dir(str(folder))
    without(recbole_utils, "ensure_dir")
    with pytest.raises(FileExistsError):
        recbole_utils.ensure_dir(str(folder))


def test_one_process_of_a_machine_downloads(
    of_one: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = of_one("BPR", data_path=str(tmp_path / "elsewhere"))
    happened: list[str] = []

    def download(self: Dataset) -> None:
        write_log(tmp_path / "elsewhere", "tiny")
        happened.append("download")

    announce, await_announcement = processes.announce, processes.await_announcement
    monkeypatch.setattr(Dataset, "_download", download)
    monkeypatch.setattr(
        processes,
        "announce",
        lambda what: (happened.append("announce"), announce(what)),  # type: ignore
    )
    monkeypatch.setattr(
        processes, "await_announcement", lambda what: (happened.append("await"), await_announcement(what))
    )
    create_dataset(config)
    config["local_rank"] = 1
    assert create_dataset(config).inter_num > 0
    assert happened == ["download", "announce", "await"]


def test_one_process_of_a_machine_saves_the_data(of_one: Callable[..., Config]) -> None:
    config = of_one("BPR", save_dataset=True, local_rank=0)
    saved = Path("saved") / "tiny-Dataset.pth"
    config["local_rank"] = 1
    processes.announce("data set tiny from process 0 on")
    create_dataset(config)
    assert not saved.exists()
    config["local_rank"] = 0
    create_dataset(config)
    assert saved.exists()
