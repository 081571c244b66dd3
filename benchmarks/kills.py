"""Kill training at random moments, resume it, and compare with a run left in peace.

    python benchmarks/kills.py --kills 50

The exit code is 1 if a checkpoint was lost or an end differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

from robustness.kills import run_campaign


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    report = run_campaign(arguments.kills, arguments.seed, progress=print)
    for name, value in dataclasses.asdict(report).items():
        if name != "faults":
            print(f"{name}: {value:.0f}" if isinstance(value, float) else f"{name}: {value}")
    for fault in report.faults:
        print(f"fault: {fault}")
    print("faults: none" if not report.faults else f"faults: {len(report.faults)}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
