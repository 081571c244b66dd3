"""The quality of dense and of sparse updates of the item table."""

import sys

from harness.updates import main

if __name__ == "__main__":
    sys.exit(main())
