"""Processor time of training steps, epochs and evaluations, of this checkout and of another."""

import sys

from harness.steps import main

if __name__ == "__main__":
    sys.exit(main())
