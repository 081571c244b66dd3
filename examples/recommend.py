"""Train SASRecSCE, then recommend from its checkpoint: to a user, and to a visitor it has never seen.

    python examples/recommend.py [--key=value ...]

The command line does the same for files of any size: recbole-sce recommend --help
"""

from pathlib import Path

import recbole_sce  # noqa: F401  (registers SASRecSCE with RecBole)
from recbole.quick_start import run_recbole
from recbole_sce.inference.recommender import Recommender


def main() -> None:
    run_recbole(model="SASRecSCE", dataset="ml-100k", config_dict={"epochs": 3})
    # The run's best model; the file beside it, *-last.pth, is what training would go on from.
    checkpoint = max(
        (path for path in Path("saved").glob("SASRecSCE-*.pth") if not path.stem.endswith("-last")),
        key=lambda path: path.stat().st_mtime,
    )

    recommender = Recommender.load(checkpoint)
    for batch in recommender.for_users(["196", "186"], k=5, exclude_seen=True):
        for user, items, _ in batch.rows():
            print(f"user {user}: {', '.join(items)}")
    visitor = ("visitor", ["50", "181", "172"])  # three films, oldest first
    for batch in recommender.for_histories([visitor], k=5, exclude_seen=True):
        for name, items, scores in batch.rows():
            print(f"{name}: {', '.join(f'{item} ({score:.2f})' for item, score in zip(items, scores))}")


if __name__ == "__main__":
    main()
