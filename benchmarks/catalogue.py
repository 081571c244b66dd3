"""Each loss in a large catalogue: quality, coverage and popularity after the same processor time."""

import sys

from harness.catalogue import main

if __name__ == "__main__":
    sys.exit(main())
