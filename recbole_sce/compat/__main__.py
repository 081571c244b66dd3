"""Print the list of patches: ``python -m recbole_sce.compat``."""

from __future__ import annotations

from recbole_sce.compat import BEFORE_RECBOLE, PATCHES
from recbole_sce.utils.patching import markdown

if __name__ == "__main__":
    print(markdown([*BEFORE_RECBOLE, *PATCHES]), end="")
