"""Compare SASRecSCE with RecBole's built-in models under one protocol: quality, time, memory.

    python examples/compare.py [model ...] [--key=value ...]

Each model runs in a process of its own, so that its peak memory is its own. Run it again, and what has
finished is not repeated. Built-in sequential models train one padded prefix a row and need far longer for an
epoch than SASRecSCE, which trains all positions of a sequence at once; ``--train_positions=last`` makes
SASRecSCE do as they do. ``recbole-sce compare`` is the same with more to choose from.
"""

import sys

from recbole_sce.experiments import compare, write_report

MODELS = ["SASRecSCE", "SASRec", "GRU4Rec", "BERT4Rec", "Pop"]


def main() -> None:
    models = [argument for argument in sys.argv[1:] if not argument.startswith("--")] or MODELS
    given = dict(argument[2:].split("=", 1) for argument in sys.argv[1:] if argument.startswith("--"))

    comparison = compare(
        models,
        "ml-100k",
        seeds=[2020],
        settings={"epochs": 2, **given},
        out="comparison",
        listener=lambda event: print(event.kind, event.label) if event.kind != "progress" else None,
    )
    report = write_report(comparison)
    print((comparison.folder / "summary.md").read_text(encoding="utf-8"))
    print("plots and more:", report)
    for record in comparison.failed():
        print(f"{record['label']} failed: {record['error']}")


if __name__ == "__main__":
    main()
