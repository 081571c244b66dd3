"""Each variant beside RecBole's model of the same name: what they reach in the same processor time."""

import sys

from harness.variants import main

if __name__ == "__main__":
    sys.exit(main())
