"""Put the list of patches into the page of the reference: ``python docs/_site/patches.py``."""

from __future__ import annotations

from pathlib import Path

from recbole_sce.compat import BEFORE_RECBOLE, PATCHES
from recbole_sce.utils.patching import markdown

PAGE = Path(__file__).parents[1] / "reference" / "patches.md"
MARK = "<!-- Made by python -m recbole_sce.compat. -->\n\n"

if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(head + MARK + markdown([*BEFORE_RECBOLE, *PATCHES]), encoding="utf-8", newline="\n")
