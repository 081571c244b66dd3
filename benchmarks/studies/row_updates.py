"""Processor time of a step of SASRecSCE, updating all rows of the item table or those that the step touches.

    python benchmarks/studies/row_updates.py --items 100000 300000 --targets 1024 4096

Logs are generated, with histories of 9 on average; rare items do not occur. One thread, medians.
"""

import argparse
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

from recbole_sce import SASRecSCE
from recbole_sce.data.synthetic import LogSpec, generate_log, write_inter
from recbole_sce.training import SCETrainer
from recbole_sce.utils.arguments import recbole_sees

#: Steps that do not count, in which memory is first taken.
_WARM_UP = 4


def milliseconds(folder: Path, dataset: str, targets: int, by_row: bool, steps: int) -> tuple[float, int]:
    """Return the median processor time of a step, and the number of items."""
    settings = {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "recipe": "sparse",
        "train_batch_positions": targets,
        "sparse_item_updates": by_row,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    }
    config = Config("SASRecSCE", dataset, config_dict=settings)
    train, _, _ = data_preparation(config, create_dataset(config))
    init_seed(1, True)
    model = SASRecSCE(config, train._dataset)
    trainer = SCETrainer(config, model)
    seconds = []
    with trainer.average.following(trainer.optimizer):
        for batch in islice(train, steps + _WARM_UP):
            begun = time.process_time()
            trainer.optimizer.zero_grad()
            model.calculate_loss(batch).backward()
            trainer.optimizer.step()
            seconds.append(time.process_time() - begun)
    return 1000 * statistics.median(seconds[_WARM_UP:]), model.n_items - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[12_000, 50_000, 100_000, 300_000])
    parser.add_argument("--targets", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--interactions", type=int, default=150_000, help="at least; one for each item")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("items,targets in a batch,ms with all rows,ms with touched rows,times faster")
    with tempfile.TemporaryDirectory() as folder, recbole_sees({}):
        for items in arguments.items:
            n_interactions = max(arguments.interactions, items)
            log = generate_log(LogSpec(n_interactions, items, mean_length=9, popularity_exponent=0.5))
            write_inter(log, Path(folder), f"generated{items}")
            for targets in arguments.targets:
                (dense, n_items), (rows, _) = (
                    milliseconds(Path(folder), f"generated{items}", targets, by_row, arguments.steps)
                    for by_row in (False, True)
                )
                print(f"{n_items},{targets},{dense:.0f},{rows:.0f},{dense / rows:.2f}", flush=True)


if __name__ == "__main__":
    main()
