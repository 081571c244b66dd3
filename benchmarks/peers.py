"""SASRec of this package beside RecBole, RecTools and RePlay: time, quality and memory on the same data."""

import sys

from harness.peers import main

if __name__ == "__main__":
    sys.exit(main())
