"""Patches of what RecBole does in each of several processes; :mod:`recbole_sce.compat.launch` starts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_sce.safe_io.checkpoints import safe_load
from recbole_sce.utils import processes
from recbole_sce.utils.patching import patch, wrap, wrap_everywhere

#: Seconds that a step waits for another process, where ``process_timeout`` does not say.
_TIMEOUT = 60
#: What a collector gathers row by row; all else it knows of the whole data set.
_PER_ROW = ("rec.items", "rec.topk", "rec.meanrank", "rec.score", "data.label")


@patch(
    symptom="processes without a GPU each fail on an assertion without words",
    cause="only nccl is known",
    where="config/configurator.py: Config._init_device",
)
def several_processes() -> bool:
    """Join the processes on whatever device there is: GPUs by nccl, the CPU by gloo."""
    from recbole.config import Config

    @wrap(Config, "_init_device")
    def init_device(original: Callable[..., Any], self: Any) -> None:
        settings = self.final_config_dict
        if "local_rank" not in settings:
            original(self)
            return
        local_rank = settings.pop("local_rank")
        layout = processes.Layout(
            **{name: settings[name] for name in ("nproc", "world_size", "ip", "port")},
            group_offset=settings["offset"],
        )
        timeout = settings.get("process_timeout", _TIMEOUT)
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
            raise ValueError(f"process_timeout must be a number of seconds above 0, got {timeout!r}")
        original(self)  # as if for one process: it chooses between cpu and cuda
        settings["single_spec"], settings["local_rank"] = False, local_rank
        if settings["device"].type == "cuda":
            check_gpus(settings["gpu_id"], layout.nproc, torch.cuda.device_count())
            settings["device"] = torch.device("cuda", local_rank)
            torch.cuda.set_device(settings["device"])
            processes.join(layout, local_rank, "nccl", timeout)
        else:
            if "OMP_NUM_THREADS" not in os.environ:
                torch.set_num_threads(max(1, torch.get_num_threads() // layout.nproc))
            processes.join(layout, local_rank, "gloo", timeout)
        if local_rank != 0:
            settings.update(state="error", show_progress=False, verbose=False)

    return True


def check_gpus(gpu_id: str, nproc: int, n_gpus: int) -> None:
    """Check that each process of this machine has a GPU.

    Args:
        gpu_id: the setting, numbers separated by commas.
        nproc: processes of this machine.
        n_gpus: how many of the GPUs that ``gpu_id`` names are there.

    Raises:
        ValueError: there are fewer than processes.
    """
    named = len([one for one in gpu_id.split(",") if one.strip()])
    if min(named, n_gpus) < nproc:
        raise ValueError(
            f"nproc must be at most the number of GPUs that gpu_id names and torch sees, got {nproc}, with "
            f"gpu_id {gpu_id!r} ({named} named, {n_gpus} seen): name one per process (gpu_id: '0,1,...'), or "
            "set use_gpu: False to use the CPU"
        )


@patch(
    symptom="FileExistsError where processes start together",
    cause="a folder is looked for, then made",
    where="utils/utils.py: ensure_dir",
)
def folders_at_once() -> bool:
    """Make a folder that another process makes at the same moment."""
    from recbole.utils import utils

    @wrap_everywhere(utils, "ensure_dir")
    def ensure_dir(original: Callable[..., Any], dir_path: str) -> None:
        try:
            os.makedirs(dir_path, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"the folder {dir_path} cannot be made ({error.strerror}): checkpoint_dir must be a folder "
                "that can be written, and so must the one that the run is started in, for log/ and "
                "log_tensorboard/"
            ) from None

    return True


@patch(
    symptom="a download hangs; a saved data set is damaged; processes train on one part of the data",
    cause="each process downloads, saves and shares by itself",
    where=(
        "data/dataset/dataset.py: Dataset._load_data; data/utils.py: create_dataset, save_split_dataloaders"
    ),
)
def data_of_several_processes() -> bool:
    """Download and save data once a machine, and share saved loaders with nobody."""
    from recbole.data import utils
    from recbole.data.dataset import Dataset

    @wrap(Dataset, "_load_data")
    def load_data(original: Callable[..., Any], self: Any, token: str, dataset_path: str) -> None:
        if processes.together():
            done = f"data set {token} from process {self.config['offset']} on"
            if self.config["local_rank"] != 0:
                processes.await_announcement(done)
            else:
                if not os.path.isdir(dataset_path) or not os.listdir(dataset_path):
                    self._download()
                processes.announce(done)
        original(self, token, dataset_path)

    @wrap(Dataset, "save")
    def save(original: Callable[..., Any], self: Any) -> None:
        if not processes.together() or self.config["local_rank"] == 0:
            original(self)

    @wrap_everywhere(utils, "load_split_dataloaders")
    def load_split_dataloaders(original: Callable[..., Any], config: Any) -> Any:
        return None if processes.together() else original(config)

    @wrap_everywhere(utils, "save_split_dataloaders")
    def save_split_dataloaders(original: Callable[..., Any], config: Any, dataloaders: Any) -> None:
        if processes.together():
            raise ValueError(
                "save_dataloaders must be False with several processes, got True: each of them has a part of "
                "the data. save_dataset: True saves what takes longest"
            )
        original(config, dataloaders)

    return True


@patch(
    symptom="training on the CPU fails; each process normalises by its own part of the batch",
    cause=(
        "DistributedDataParallel gets the number of a GPU, and batch normalisation one that only GPUs have"
    ),
    where="trainer/trainer.py: AbstractTrainer.__init__",
)
def model_of_several_processes() -> bool:
    """Train one model in several processes on the CPU too, and start when all have their data."""
    from recbole.trainer.trainer import AbstractTrainer
    from torch.nn.parallel import DistributedDataParallel

    @wrap(AbstractTrainer, "__init__")
    def init(original: Callable[..., Any], self: Any, config: Any, model: Any) -> None:
        processes.wait()
        if config["single_spec"] or config["device"].type == "cuda":
            original(self, config, model)
            return
        self.config, self.model = config, model
        self.distributed_model = DistributedDataParallel(model)

    return True


@patch(
    symptom="test metrics differ between equal runs; a process reads an older checkpoint, or none",
    cause="each process names the file by its own second, and nobody waits for the one that writes",
    where="trainer/trainer.py: Trainer.__init__, _save_checkpoint",
)
def one_checkpoint() -> bool:
    """Write the checkpoint of several processes once, and let none go on before it is there.

    The very first process names, writes and reads it, and gives the others what it has read.
    """
    from recbole.trainer import trainer

    @wrap(trainer.Trainer, "__init__")
    def init(original: Callable[..., Any], self: Any, config: Any, model: Any) -> None:
        original(self, config, model)
        self.saved_model_file = processes.from_first(self.saved_model_file)

    for owner, name in (
        (trainer.Trainer, "_save_checkpoint"),
        (trainer.PretrainTrainer, "save_pretrained_model"),
    ):

        @wrap(owner, name)
        def save(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> None:
            processes.by_first(lambda: original(self, *args, **kwargs))

    @wrap(trainer.Trainer, "evaluate")
    def evaluate(
        original: Callable[..., Any],
        self: Any,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        if processes.together() and eval_data and load_best_model:
            _load_on_first(self, model_file or self.saved_model_file)
            load_best_model = False
        return original(self, eval_data, load_best_model, model_file, show_progress)

    return True


def _load_on_first(trainer: Any, file: str) -> None:
    """Give the model of every process what the first one reads."""
    other = None
    if processes.rank() == 0:
        checkpoint = safe_load(file, map_location=trainer.device)
        trainer.model.load_state_dict(checkpoint["state_dict"])
        other = checkpoint.get("other_parameter")
        trainer.logger.info(f"Loading model structure and parameters from {file}")
    trainer.model.load_other_parameter(processes.from_first(other))
    for tensor in trainer.model.state_dict().values():
        torch.distributed.broadcast(tensor, src=0)


@patch(
    symptom="metrics of several processes are not those of one",
    cause="rounded metrics are averaged by weights that count no rows; repeated rows count twice",
    where="trainer/trainer.py: Trainer._map_reduce",
    link="https://github.com/RUCAIBox/RecBole/pull/1872",
)
def exact_metrics() -> bool:
    """Compute the metrics of several processes as one computes them: from all rows, each once.

    The first process gathers what the metrics are computed from, and sends the others the results.
    """
    from recbole.trainer.trainer import Trainer

    @wrap(Trainer, "evaluate")
    def evaluate(original: Callable[..., Any], self: Any, eval_data: Any, *args: Any, **kwargs: Any) -> Any:
        if not processes.together() or not eval_data:
            return original(self, eval_data, *args, **kwargs)
        with _gathering(self.eval_collector, eval_data):
            return original(self, eval_data, *args, **kwargs)

    @wrap(Trainer, "_map_reduce")
    def map_reduce(original: Callable[..., Any], self: Any, result: Any, num_sample: int) -> Any:
        return processes.from_first(result)

    return True


@contextmanager
def _gathering(collector: Any, loader: Any) -> Iterator[None]:
    """Let the collector of the first process return what all processes have collected from ``loader``."""
    of_this_process = collector.get_data_struct

    def get_data_struct() -> Any:
        struct = of_this_process()
        parts = processes.gather_on_first({name: struct.get(name) for name in _PER_ROW if name in struct})
        if parts is not None:
            order = order_of_shards(rows_of_samples(loader), len(parts))
            for name in parts[0]:
                struct.set(name, torch.cat([part[name] for part in parts])[order])
        return struct

    collector.get_data_struct = get_data_struct
    try:
        yield
    finally:
        del collector.get_data_struct


def rows_of_samples(loader: Any) -> Tensor:
    """Return (n,) int64 how many rows are collected of each sample of an evaluation loader."""
    from recbole.utils import EvaluatorType

    if loader.config["eval_type"] == EvaluatorType.VALUE and hasattr(loader, "uid_list"):
        # each sample is a user, with all rows and their sampled negatives
        return torch.from_numpy(loader.uid2items_num[np.asarray(loader.uid_list)] * loader.times)
    return torch.ones(loader.sample_size, dtype=torch.int64)


def order_of_shards(rows: Tensor, world_size: int) -> Tensor:
    """Return where the rows of all samples are in the concatenated parts of all processes.

    ``DistributedSampler`` without shuffling gives sample i to process i mod ``world_size``, and begins again
    with the first samples until all processes have equally many; these repeated ones are left out.

    Args:
        rows: (n,) int64, how many rows each sample has.
        world_size: number of processes.

    Returns:
        (rows.sum(),) int64, indices into the rows of process 0, followed by those of process 1, ...
    """
    n = len(rows)
    total = -(-n // world_size) * world_size
    samples = torch.cat([torch.arange(rank, total, world_size) for rank in range(world_size)])  # (total,)
    sizes = rows[samples % n]  # (total,)
    starts = torch.empty(total, dtype=torch.int64)
    starts[samples] = sizes.cumsum(0) - sizes
    within = torch.arange(int(rows.sum())) - (rows.cumsum(0) - rows).repeat_interleave(rows)
    return starts[:n].repeat_interleave(rows) + within
