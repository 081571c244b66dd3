"""Quality beside time and memory of models and losses on real data: run | collect | render."""

import sys

from harness.quality import main

if __name__ == "__main__":
    sys.exit(main())
