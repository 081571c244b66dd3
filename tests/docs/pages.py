"""The pages that people read, and the blocks of code in them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FOLDERS = ("start", "guides", "concepts", "reference", "results")
#: README and the pages of the site, without those that are made when it is built, and without dated notes.
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    *(page for folder in FOLDERS for page in sorted((ROOT / "docs" / folder).glob("*.md"))),
]
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A block of code: its language, its text, and the line of prose before it."""

    language: str
    text: str
    before: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the blocks of ``page`` in any of ``languages``, in order."""
    content = page.read_text(encoding="utf-8")
    chosen = []
    for match in _BLOCK.finditer(content):
        before = content[: match.start()].rstrip().rpartition("\n\n")[2]
        if match[2] in languages:
            chosen.append(Block(match[2], textwrap.dedent(match[3]), before))
    return chosen


def name_of(page: Path) -> str:
    """Return the path of ``page`` within the repository."""
    return page.relative_to(ROOT).as_posix()
