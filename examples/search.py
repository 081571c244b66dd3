"""Search hyper-parameters so that nothing is lost: run it again after an interruption, and it goes on.

    pip install "recbole_sce[tune]"
    python examples/search.py [--key=value ...]

Run it in several terminals at once, and they share the trials. ``recbole-sce tune`` is the same with more to
choose from.
"""

import sys
from pathlib import Path

from recbole_sce.experiments import tune, write_trials

SPACE = """
learning_rate loguniform -8,-4
bucket_size_y choice [64,256]
"""


def main() -> None:
    given = dict(argument[2:].split("=", 1) for argument in sys.argv[1:] if argument.startswith("--"))
    Path("space.hyper").write_text(SPACE)
    tuning = tune(
        "SASRecSCE",
        "ml-100k",
        params_file="space.hyper",
        algorithm="random",  # or "exhaustive", "bayes"
        max_evals=2,
        settings={"epochs": 2, **given},
        out="search",
        resume=Path("search").exists(),
        listener=lambda event: print(event.kind, event.trial) if event.kind != "progress" else None,
    )
    best = tuning.best()
    print("best trial:", best["params"] if best else "every trial failed")
    print("all trials:", write_trials(tuning)["html"])


if __name__ == "__main__":
    main()
