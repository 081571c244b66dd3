"""Train with random settings and random kills for a while, and check what must always hold.

   python benchmarks/soak.py --minutes 10

The exit code is 1 if something did not hold.
"""

from __future__ import annotations

import argparse
import sys
import warnings

from robustness.soak import soak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole reads it
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module=r"recbole\."
    )  # its use of pandas and torch
    report = soak(arguments.minutes, arguments.seed, progress=lambda text: print(text, flush=True))
    for fault in report.faults:
        print(f"fault: {fault}")
    print(
        f"{report.trials} trials ({report.refused} refused), {report.kills} with kills, "
        f"{len(report.faults)} faults, {report.seconds:.0f} s"
    )
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
