"""From a raw log to lists of recommendations, stage by stage; the same as ``recbole-sce bench scale``."""

import sys

from recbole_sce.bench.scale import main

if __name__ == "__main__":
    sys.exit(main())
