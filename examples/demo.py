"""Show what recbole_sce is for: a quick start, then a large catalogue beside RecBole.

    python examples/demo.py [--epochs=10] [--n-items=100000]

First SASRecSCE is trained and tested on ml-100k, the data set that RecBole carries, by RecBole's own
``run_recbole``. Then RecBole's SASRec with full softmax cross-entropy and SASRecSCE take a few training steps
each on a generated log with a large catalogue. Each of the two has a process of its own, so that peak memory
is that model's alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from typing import Any

#: Interactions of the generated log, and training steps that are timed after the first one.
N_INTERACTIONS, N_STEPS = 150_000, 3
LOG_NAME = "large-catalogue"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=10, help="epochs on ml-100k")
    parser.add_argument("--n-items", type=int, default=100_000, help="items of the generated log")
    parser.add_argument("--measure", metavar="MODEL", help=argparse.SUPPRESS)
    parser.add_argument("--data-path", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # What RecBole's use of pandas and torch makes them say; no user can mend it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")
    # RecBole's Config reads the command line as settings of its own.
    sys.argv = sys.argv[:1]
    if options.measure:
        print(json.dumps(measure(options.measure, options.data_path)))
        return
    quick_start(options.epochs)
    large_catalogue(options.n_items)


def quick_start(epochs: int) -> None:
    """Train and test SASRecSCE on ml-100k, and print its metrics."""
    import recbole_sce  # noqa: F401  (registers SASRecSCE with RecBole)
    from recbole.quick_start import run_recbole

    print(f"1. SASRecSCE on ml-100k, {epochs} epochs", flush=True)
    started = time.perf_counter()
    result = run_recbole(
        model="SASRecSCE",
        dataset="ml-100k",
        config_dict={"epochs": epochs, "state": "ERROR", "show_progress": sys.stderr.isatty()},
    )
    print(f"   trained and tested in {time.perf_counter() - started:.0f} s")
    for metric in ("recall@10", "ndcg@10"):
        valid, test = result["best_valid_result"][metric], result["test_result"][metric]
        print(f"   {metric:10} validation {valid:.4f}, test {test:.4f}")


def large_catalogue(n_items: int) -> None:
    """Print seconds per step and peak memory of RecBole's SASRec and of SASRecSCE on a generated log."""
    from recbole_sce.data.synthetic import LogSpec, generate_log, write_inter

    print(f"\n2. One training step with {n_items:,} items (generated log)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        spec = LogSpec(n_interactions=N_INTERACTIONS, n_items=n_items, mean_length=12.0)
        write_inter(generate_log(spec), folder, LOG_NAME)
        rows = []
        for model, label in (("SASRec", "SASRec, CE (RecBole)"), ("SASRecSCE", "SASRecSCE, SCE")):
            print(f"   measuring {label} ...", file=sys.stderr, flush=True)
            command = [sys.executable, __file__, "--measure", model, "--data-path", folder]
            child = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
            if child.returncode:
                sys.exit(
                    f"{label} could not be measured: its process ended with exit code {child.returncode}"
                )
            rows.append((label, json.loads(child.stdout.splitlines()[-1])))
    print(f"   {'':22}{'positions/step':>15}{'s/step':>9}{'ms/position':>13}{'peak MiB':>10}")
    for label, row in rows:
        per_position = 1000 * row["seconds"] / row["positions"]
        seconds = f"{row['seconds']:9.2f}{per_position:13.3f}"
        print(f"   {label:22}{row['positions']:15,.0f}{seconds}{row['peak_mib']:10,.0f}")
    print(
        f"   Forward, backward and optimiser step: median of {N_STEPS} after a first one.\n"
        "   Peak: resident memory of these steps, above that of the process with data and model."
    )


def measure(model_name: str, data_path: str) -> dict[str, float]:
    """Train a few steps and return median seconds, mean positions per step, and peak MiB above the start."""
    import recbole_sce  # noqa: F401
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed

    config = Config(
        model_name,
        LOG_NAME,
        config_dict={
            "data_path": data_path,
            "USER_ID_FIELD": "user_id",
            "ITEM_ID_FIELD": "item_id",
            "TIME_FIELD": "timestamp",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "train_neg_sample_args": None,
            "state": "ERROR",
        },
    )
    init_seed(config["seed"], config["reproducibility"])
    train_data, _, _ = data_preparation(config, create_dataset(config))
    model = get_model(model_name)(config, train_data.dataset).to(config["device"])
    return time_steps(model, train_data, config)


def time_steps(model: Any, train_data: Any, config: Any) -> dict[str, float]:
    """Return the figures of :func:`measure` for a model and its training data."""
    import torch
    from recbole_sce.utils.memory import WorkMemory

    optimizer = torch.optim.Adam(model.parameters(), lr=config["learning_rate"])
    memory = WorkMemory(config["device"])
    seconds, positions = [], []
    batches = iter(train_data)
    memory.start()
    for _ in range(1 + N_STEPS):
        batch = next(batches).to(config["device"])
        started = time.perf_counter()
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
        # RecBole trains one position of each row; a window has a target at each position that it trains.
        targets = batch[getattr(model, "TARGET_SEQ", model.POS_ITEM_ID)]
        positions.append(int((targets > 0).sum()))
    return {
        "seconds": statistics.median(seconds[1:]),
        "positions": statistics.mean(positions[1:]),
        "peak_mib": memory.peak(),
    }


if __name__ == "__main__":
    main()
