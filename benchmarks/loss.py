"""Seconds and peak memory of the losses; the same as ``recbole-sce bench loss``."""

import sys

from recbole_sce.bench.loss import main

if __name__ == "__main__":
    sys.exit(main())
