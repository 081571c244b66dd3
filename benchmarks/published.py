"""Put published figures beside rows of quality.csv into docs/results/leave-one-out.md."""

import sys

from harness.published import main

if __name__ == "__main__":
    sys.exit(main())
