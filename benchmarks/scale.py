"""From a raw log to lists of recommendations, stage by stage, RecBole's way and ours."""

import sys

from harness.scale import main

if __name__ == "__main__":
    sys.exit(main())
