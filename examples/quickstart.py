"""Train SASRec with Scalable Cross-Entropy on the data set that RecBole carries, and test it.

    python examples/quickstart.py [--key=value ...]

Any of RecBole's or recbole_sce's configuration keys may follow, as in RecBole itself.
"""

import resource
import sys
import time

import recbole_sce  # noqa: F401  (registers SASRecSCE with RecBole)
from recbole.quick_start import run_recbole


def main() -> None:
    started = time.perf_counter()
    result = run_recbole(model="SASRecSCE", dataset="ml-100k")
    seconds = time.perf_counter() - started

    print(f"\nSASRecSCE on ml-100k, {seconds:.0f} s")
    print(f"{'':12}{'valid':>10}{'test':>10}")
    for metric, test in result["test_result"].items():
        print(f"{metric:12}{result['best_valid_result'][metric]:10.4f}{test:10.4f}")
    # ru_maxrss counts KiB on Linux, bytes on macOS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"peak memory of the process: {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
