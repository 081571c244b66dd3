"""What updates of single item rows cost in quality: SASRecSCE with both kinds of updates, and popularity.

The log comes from the generator of :mod:`harness.scale`, so that its table also shows that the order of items
can be learnt: popularity is what a model reaches that has not. Run it with::

    python benchmarks/updates.py --help
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from harness import common
from recbole_sce.data.synthetic import LogSpec, generate_log, write_inter
from recbole_sce.evaluator.pairs import Pairs
from recbole_sce.evaluator.ranking import rank_catalogue

DATASET = "generated"


class Result(NamedTuple):
    """What a model reached on the test data."""

    name: str
    ndcg: float
    recall: float


def run(arguments: argparse.Namespace) -> list[Result]:
    """Train with both kinds of updates from each seed."""
    spec = LogSpec(arguments.interactions, arguments.items, mean_length=30)
    results: list[Result] = []
    with _inside_temporary_folder() as folder:
        write_inter(generate_log(spec), folder, DATASET)
        for seed in range(arguments.seeds):
            for sparse in (False, True):
                settings = {
                    "data_path": str(folder),
                    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
                    "MAX_ITEM_LIST_LENGTH": arguments.max_length,
                    "hidden_size": arguments.width,
                    "inner_size": 4 * arguments.width,
                    "sparse_item_updates": sparse,
                    "epochs": arguments.epochs,
                    "eval_step": arguments.epochs,
                    "topk": [10],
                    "seed": seed,
                    "show_progress": False,
                    "state": "ERROR",
                }
                trained, popularity = train(settings)
                if not results:
                    results.append(popularity)
                results.append(trained)
                print(f"  seed {seed}, {trained.name}: NDCG@10 {trained.ndcg:.4f}", file=sys.stderr)
    return results


@contextmanager
def _inside_temporary_folder() -> Iterator[Path]:
    """Work where RecBole may leave its logs and checkpoints, and keep arguments from it."""
    before, arguments = os.getcwd(), sys.argv
    with tempfile.TemporaryDirectory(prefix="recbole-sce-updates-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # RecBole's calls of pandas and torch
        os.chdir(folder)
        sys.argv = sys.argv[:1]
        try:
            yield Path(folder)
        finally:
            os.chdir(before)
            sys.argv = arguments


def train(settings: dict[str, Any]) -> tuple[Result, Result]:
    """Train a model; return what it reaches on the test data, and what popularity does."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    config = Config("SASRecSCE", DATASET, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    train_data, valid_data, test_data = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    model = get_model("SASRecSCE")(config, train_data._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(train_data, valid_data, verbose=False, show_progress=False)
    metrics = trainer.evaluate(test_data, load_best_model=True)
    name = "sparse_item_updates" if config["sparse_item_updates"] else "dense updates"
    return (
        Result(name, metrics["ndcg@10"], metrics["recall@10"]),
        popularity(train_data._dataset, test_data._dataset),
    )


def popularity(train_rows: Any, test_rows: Any) -> Result:
    """Rank all items for each test row by how often the training data has them as targets."""
    counts = torch.bincount(train_rows.inter_feat[train_rows.iid_field].long(), minlength=train_rows.item_num)
    targets = test_rows.inter_feat[test_rows.iid_field].long()  # (n,)
    ranking = rank_catalogue(
        torch.ones(len(targets), 1),
        counts.float().unsqueeze(1),
        10,
        Pairs(torch.arange(len(targets)), targets),
    )
    hits = ranking.items == targets.unsqueeze(1)  # (n, 10)
    gains = hits / torch.log2(torch.arange(10) + 2.0)
    return Result("popularity", float(gains.sum(1).mean()), float(hits.any(1).float().mean()))


def table(results: Sequence[Result]) -> str:
    """Return means and standard deviations over seeds as a Markdown table."""
    lines = ["| | seeds | NDCG@10 | Recall@10 |", "|---|---:|---:|---:|"]
    for name in dict.fromkeys(result.name for result in results):
        some = [result for result in results if result.name == name]
        cells = [name, f"{len(some)}"]
        cells += [_spread([getattr(one, value) for one in some]) for value in ("ndcg", "recall")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="updates.py",
        description="Train SASRecSCE on a generated log with dense and with sparse updates of the item "
        "table, from several seeds, and compare the quality.",
    )
    numbers = {
        "interactions": (100_000, "of the log"),
        "items": (5_000, "of the log"),
        "max-length": (20, "MAX_ITEM_LIST_LENGTH"),
        "width": (64, "width d of states and items"),
        "epochs": (20, "of training"),
        "seeds": (3, "how many"),
        "threads": (torch.get_num_threads(), "of torch"),
    }
    for name, (default, meaning) in numbers.items():
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{meaning} (default: {default})"
        )
    common.add_outputs(parser, table=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark with command-line arguments; return the exit status."""
    argv = common.arguments_of(argv)
    arguments = _parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    result = f"{common.machine('cpu', arguments.threads)}\n\n{table(run(arguments))}"
    print(result)
    common.write_markdown(arguments.markdown, "updates.py", argv, result)
    return 0
