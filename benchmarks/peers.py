"""SASRec of this package, of RecBole, RecTools and RePlay: the same data and metric, time, quality and memory."""

import sys

from harness.peers import main

if __name__ == "__main__":
    sys.exit(main())
