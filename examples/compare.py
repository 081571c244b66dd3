"""Compare SASRecSCE with RecBole's built-in models under one configuration: quality, time, memory.

    python examples/compare.py [--epochs=10] [--key=value ...]

Each model runs in a process of its own, so that its peak memory is its own. Built-in sequential models
train one padded prefix a row and need far longer for an epoch than SASRecSCE, which trains all positions
of a sequence at once; ``--train_positions=last`` makes SASRecSCE do as they do.
"""

import multiprocessing
import resource
import sys
import time

MODELS = ["SASRecSCE", "SASRec", "GRU4Rec", "BERT4Rec", "Pop"]


def run(model, results):
    """Train and test ``model``; put its row of the table into ``results``."""
    import recbole_sce  # noqa: F401  (registers SASRecSCE with RecBole)
    from recbole.quick_start import run_recbole

    settings = {"epochs": 2, "show_progress": False, "train_neg_sample_args": None}
    if model == "Pop":  # not a sequential model: told to split the data as the others do, one epoch counts
        settings.update(
            epochs=1,
            train_neg_sample_args={"distribution": "uniform", "sample_num": 1},
            eval_args={"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
        )
    started = time.perf_counter()
    test = run_recbole(model=model, dataset="ml-100k", config_dict=settings, saved=False)["test_result"]
    seconds = time.perf_counter() - started
    # ru_maxrss counts KiB on Linux, bytes on macOS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    results.put((model, test["ndcg@10"], test["recall@10"], seconds, peak))


def main() -> None:
    spawn = multiprocessing.get_context("spawn")
    rows = []
    for model in MODELS:
        results = spawn.SimpleQueue()
        process = spawn.Process(target=run, args=(model, results))
        process.start()
        process.join()
        if process.exitcode != 0:
            sys.exit(f"{model} failed, see above")
        rows.append(results.get())

    print(f"\n{'model':12}{'NDCG@10':>10}{'Recall@10':>11}{'seconds':>9}{'peak MiB':>10}")
    for model, ndcg, recall, seconds, peak in rows:
        print(f"{model:12}{ndcg:10.4f}{recall:11.4f}{seconds:9.0f}{peak:10.0f}")


if __name__ == "__main__":
    main()
