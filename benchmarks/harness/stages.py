"""The stages of one side of the scale benchmark, in this process: processor seconds and peak memory of each.

A process that dies on the way has said on stdout which stage it was in: a line of JSON when a stage begins,
and another when it has ended.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from recbole_sce.data.synthetic import LogSpec, generate_log
from recbole_sce.utils.memory import WorkMemory

#: Name of the generated data set; each side has a folder of its own.
DATASET = "generated"
CPU = torch.device("cpu")
#: Users asked for at a time where RecBole exports: it holds a score of each item for each of them.
_RECBOLE_USERS = 1000
_MIB = 2**20


@dataclass(frozen=True)
class Case:
    """What a process does.

    Attributes:
        side: ``generate``, or one of ``SIDES``.
        folder: where the log is, ``log.csv``, and where the process works.
        interactions, items: size of the log.
        width: d of states and items.
        max_length: ``MAX_ITEM_LIST_LENGTH``.
        train_positions: of recbole_sce: all or last.
        train_batch_size, eval_batch_size: rows a batch.
        steps: of training.
        eval_users, export_users: how many at most are evaluated, and get their top items written.
        k: length of the lists.
        threads: of torch.
        timeout: seconds that a stage may take.
        memory_gib: what the process may allocate.
        seed: of the log, and of RecBole.
    """

    side: str
    folder: str
    interactions: int
    items: int
    width: int
    max_length: int
    train_positions: str
    train_batch_size: int
    eval_batch_size: int
    steps: int
    eval_users: int
    export_users: int
    k: int
    threads: int
    timeout: int
    memory_gib: float
    seed: int


@dataclass(frozen=True)
class Stage:
    """What became of a stage.

    Attributes:
        name: of the stage.
        seconds: processor time that it took, of all threads.
        peak_mib: peak of the process's resident memory in it.
        extra_mib: how much of that is beyond what was resident when it began.
        kept_mib: how much more is resident after the stage than before.
        failure: why it did not end well; then the others say what was reached.
        details: further numbers.
    """

    name: str
    seconds: float = math.nan
    peak_mib: float = math.nan
    extra_mib: float = math.nan
    kept_mib: float = math.nan
    failure: str = ""
    details: dict[str, float] = field(default_factory=dict)


class StageClock:
    """Measures one stage after the other and prints each as a line of JSON."""

    def __init__(self, timeout: int) -> None:
        self._timeout = timeout
        self._memory = WorkMemory(CPU)
        self._name = ""
        self._began = 0.0

    def begin(self, name: str) -> None:
        """Begin a stage; the process is ended by SIGALRM if it takes too long."""
        self._name = name
        print(json.dumps({"began": name}), flush=True)
        self._memory.start()
        signal.alarm(self._timeout)
        self._began = time.process_time()

    def end(self, failure: str = "", details: dict[str, float] | None = None) -> None:
        """End the stage."""
        seconds = time.process_time() - self._began
        signal.alarm(0)
        memory = self._memory
        stage = Stage(
            self._name,
            seconds,
            memory.peak_in_all(),
            memory.peak(),
            memory.held(),
            failure,
            details or {},
        )
        print(json.dumps(asdict(stage)), flush=True)

    def attempt(self, name: str, work: Callable[[], dict[str, float] | None]) -> bool:
        """Measure ``work``, which may return details; return whether memory was enough for it."""
        self.begin(name)
        try:
            details = work()
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            self.end(_out_of_memory(error))
            return False
        self.end(details=details)
        return True


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def _out_of_memory(error: Exception) -> str:
    """Return the failure in a few words: numpy and torch say how much they asked for."""
    asked = re.search(r"allocate ([\d.]+) (\w+)", str(error))
    if asked is None:
        return "out of memory"
    amount, unit = asked.groups()
    if unit == "bytes":  # torch
        amount, unit = f"{int(amount) / 2**30:.1f}", "GiB"
    return f"out of memory (asked for {amount} {unit})"


def generate(case: Case, clock: StageClock) -> None:
    """Write the log, a csv file with a header."""

    def work() -> None:
        import pyarrow as pa
        import pyarrow.csv

        log = generate_log(LogSpec(case.interactions, case.items, seed=case.seed))
        columns = {"user_id": log.users, "item_id": log.items, "timestamp": log.timestamps}
        pyarrow.csv.write_csv(pa.table(columns), str(Path(case.folder) / "log.csv"))

    clock.attempt("generate", work)


class Side:
    """One way from the log to lists of recommendations."""

    model = ""

    def __init__(self, case: Case, clock: StageClock) -> None:
        self.case = case
        self.clock = clock
        self.data_path = Path(case.folder) / case.side
        self.config: Any = None
        self.dataset: Any = None
        self.train_data: Any = None
        self.test_data: Any = None
        self.net: Any = None
        self.trainer: Any = None

    def run(self) -> None:
        """Run all stages; those that need what an earlier one has not made are left out."""
        if self.clock.attempt("convert", self.convert) and self.clock.attempt("read the file", self.read):
            for name, trainer_of in self.trainers().items():
                self.train(name, trainer_of)
            if self.trainer is not None:
                self.clock.attempt("evaluate", self.evaluate)
                self.clock.attempt("export", self.export)

    def convert(self) -> None:
        """Make the atomic file."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Return what this side adds to the configuration."""
        return {}

    def trainers(self) -> dict[str, dict[str, Any]]:
        """Return names of the ways to train, with what each adds to the configuration."""
        return {"": {}}

    def read(self) -> None:
        """Make loaders; on the way, where the file is parsed, a new stage begins."""
        from recbole.config import Config
        from recbole.data import create_dataset, data_preparation
        from recbole.data.dataset import Dataset
        from recbole.utils import init_seed

        case = self.case
        self.config = Config(
            self.model,
            DATASET,
            config_dict={
                "data_path": str(self.data_path),
                "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
                "MAX_ITEM_LIST_LENGTH": case.max_length,
                "hidden_size": case.width,
                "inner_size": 4 * case.width,
                "train_neg_sample_args": None,
                "train_batch_size": case.train_batch_size,
                "eval_batch_size": case.eval_batch_size,
                "topk": [case.k],
                "valid_metric": f"NDCG@{case.k}",
                "seed": case.seed,
                "use_gpu": False,
                "show_progress": False,
                "state": "ERROR",
                **self.settings(),
            },
        )
        init_seed(self.config["seed"], self.config["reproducibility"])
        parse = Dataset._load_data

        def load_data(dataset: Any, *args: Any) -> None:
            parse(dataset, *args)
            self.clock.end()
            self.clock.begin("parsed to loaders")

        Dataset._load_data = load_data
        try:
            self.dataset = create_dataset(self.config)
        finally:
            Dataset._load_data = parse
        self.train_data, _, self.test_data = data_preparation(self.config, self.dataset)

    def train(self, name: str, settings: dict[str, Any]) -> None:
        """Train the first steps of an epoch, the first one apart: it allocates the optimiser's state."""
        from recbole.utils import get_model, get_trainer

        case = self.case
        made = SimpleNamespace()

        def first() -> None:
            for key, value in settings.items():
                self.config[key] = value
            self.trainer = self.net = None  # of the way before
            self.net = get_model(self.model)(self.config, self.train_data._dataset)
            trainer_class = get_trainer(self.config["MODEL_TYPE"], self.config["model"])
            self.trainer = trainer_class(self.config, self.net)
            made.batches = iter(self.train_data)
            train_epoch(self.trainer, made.batches, 1)

        def more() -> dict[str, float]:
            times, targets = train_epoch(self.trainer, made.batches, case.steps - 1)
            return {**times, "targets": targets, "dense_logits_mib": 4 * targets * case.items / _MIB}

        if self.clock.attempt(f"model and first step{name}", first):
            self.clock.attempt(f"{case.steps - 1} more steps{name}", more)

    def evaluate(self) -> dict[str, float]:
        """Rank all items for the first test users."""
        from recbole.data.dataloader import FullSortEvalDataLoader

        rows = self.test_data._dataset
        some = rows.copy(rows.inter_feat[: self.case.eval_users])
        loader = FullSortEvalDataLoader(self.config, some, self.test_data._sampler)
        result = self.trainer.evaluate(loader, load_best_model=False)
        return {"users": float(len(some.inter_feat)), "ndcg": result[f"ndcg@{self.case.k}"]}

    def export(self) -> dict[str, float]:
        """Write the top items of test users, the ids of the log."""
        users = self.test_data._dataset.inter_feat[self.dataset.uid_field][: self.case.export_users]
        with (self.data_path / "top.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["user_id", "rank", "item_id", "score"])
            for names, items, scores in self.top(users):
                for name, its_items, its_scores in zip(names, items, scores):
                    for rank, (item, score) in enumerate(zip(its_items, its_scores), start=1):
                        writer.writerow([name, rank, item, f"{score:.6g}"])
        return {"users": float(len(users))}

    def top(self, users: torch.Tensor) -> Iterable[tuple[Sequence[str], Any, Any]]:
        """Yield names (b,), items (b, k) and scores (b, k) of some of the users at a time."""
        raise NotImplementedError


class RecBoleSide(Side):
    """RecBole alone: SASRec with exact cross-entropy; pandas makes the atomic file."""

    model = "SASRec"

    def convert(self) -> None:
        """Make the atomic file with pandas, as RecBole has nothing for it."""
        import pandas as pd

        log = pd.read_csv(Path(self.case.folder) / "log.csv")
        folder = self.data_path / DATASET
        folder.mkdir(parents=True)
        log.columns = pd.Index(["user_id:token", "item_id:token", "timestamp:float"])
        log.to_csv(folder / f"{DATASET}.inter", sep="\t", index=False)

    def top(self, users: torch.Tensor) -> Iterator[tuple[Sequence[str], Any, Any]]:
        """Yield what ``recbole.utils.case_study.full_sort_topk`` gives."""
        from recbole.utils.case_study import full_sort_topk

        for some in torch.split(users.long(), _RECBOLE_USERS):
            scores, items = full_sort_topk(some.numpy(), self.net, self.test_data, k=self.case.k, device=CPU)
            yield (
                self.dataset.id2token(self.dataset.uid_field, some.numpy()),
                self.dataset.id2token(self.dataset.iid_field, items.numpy()),
                scores.tolist(),
            )


class OurSide(Side):
    """recbole_sce: SASRecSCE, trained with dense updates of the item table and with its defaults."""

    model = "SASRecSCE"

    def convert(self) -> None:
        """Make the atomic file with ``recbole-sce convert``."""
        from recbole_sce.data.convert import convert

        convert(Path(self.case.folder) / "log.csv", self.data_path, DATASET)

    def settings(self) -> dict[str, Any]:
        """Return how training rows are made."""
        return {"train_positions": self.case.train_positions}

    def trainers(self) -> dict[str, dict[str, Any]]:
        """Return both ways to update the table; the default comes last, and is evaluated."""
        return {
            ", sparse_item_updates: False": {"sparse_item_updates": False},
            "": {"sparse_item_updates": "auto"},
        }

    def top(self, users: torch.Tensor) -> Iterator[tuple[Sequence[str], Any, Any]]:
        """Yield what ``recbole-sce recommend --history test`` gives."""
        from recbole_sce.inference.recommender import Recommender, UserLog

        log = UserLog.of(self.dataset)
        log.hold_out(self.test_data._dataset.inter_feat[self.dataset.uid_field].numpy())
        names = self.dataset.id2token(self.dataset.uid_field, users.numpy()).tolist()
        recommender = Recommender(self.net, self.dataset, log, CPU)
        for top in recommender.for_users(names, self.case.k, history="test"):
            yield top.ids, top.items, top.scores.tolist()


SIDES: dict[str, type[Side]] = {"RecBole": RecBoleSide, "recbole_sce": OurSide}


class _FirstBatches:
    """Some batches of a loader, which ``Trainer._train_epoch`` takes for one; times the making of each."""

    shuffle = False

    def __init__(self, batches: Iterator[Any], n: int) -> None:
        self._batches, self._n = islice(batches, n), n
        self.seconds = 0.0

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Any]:
        while True:
            began = time.process_time()
            batch = next(self._batches, None)
            self.seconds += time.process_time() - began
            if batch is None:
                return
            yield batch


def train_epoch(trainer: Any, batches: Iterator[Any], steps: int) -> tuple[dict[str, float], float]:
    """Train some steps with ``trainer._train_epoch``.

    Returns:
        Mean processor seconds per step by what they were spent on, and the mean number of targets a step.

    Raises:
        ValueError: there is no batch left.
    """
    seconds = {"forward": 0.0, "optimiser": 0.0}
    targets = []

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[name] += time.process_time() - began

        return call

    calculate_loss = timed("forward", trainer.model.calculate_loss)

    def loss_of(interaction: Any) -> Any:
        targets.append(_n_targets(trainer.config, interaction))
        return calculate_loss(interaction)

    step = trainer.optimizer.step
    trainer.optimizer.step = timed("optimiser", step)
    some = _FirstBatches(batches, steps)
    began = time.process_time()
    trainer._train_epoch(some, 0, loss_func=loss_of)
    total = time.process_time() - began
    del trainer.optimizer.step
    n = len(targets)
    if n == 0:
        raise ValueError("the epoch has no batch left: the log is too short for this batch size")
    times = {"data": some.seconds, **seconds}
    times["backward"] = total - sum(times.values())
    return {name: value / n for name, value in times.items()}, sum(targets) / n


def _n_targets(config: Any, interaction: Any) -> int:
    from recbole_sce.data.fields import target_list_field

    name = target_list_field(config)
    if name in interaction:
        return int((interaction[name] > 0).sum())
    return len(interaction)


def limit_memory(gib: float) -> None:
    """Let allocations beyond ``gib`` fail, which the system would otherwise answer by killing processes."""
    limit = int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main(argument: str) -> None:
    """Run the stages of a case, given as JSON."""
    case = Case(**json.loads(argument))
    sys.argv = sys.argv[:1]  # RecBole reads settings there
    torch.set_num_threads(case.threads)
    limit_memory(case.memory_gib)
    os.chdir(case.folder)  # RecBole writes logs
    clock = StageClock(case.timeout)
    if case.side == "generate":
        generate(case, clock)
    else:
        SIDES[case.side](case, clock).run()


if __name__ == "__main__":
    main(sys.argv[1])
