"""Seconds and peak memory of a training step of every loss."""

import sys

from harness.loss import main

if __name__ == "__main__":
    sys.exit(main())
