"""Prose of README, site and guides: short sentences, and none that tells history."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean

import pytest

from docs.pages import PAGES, ROOT, name_of

#: Words of a sentence: on average over a page, and at most.
MEAN, MOST = 20, 25
#: What tells of earlier days. The changelog and dated notes may.
HISTORY = re.compile(
    r"\b(no longer|until now|until revision|used to be|previously|in the past)\b", re.IGNORECASE
)
WRITTEN = [
    page for page in PAGES if not re.search(r"^<!-- Made", page.read_text(encoding="utf-8"), re.MULTILINE)
]


def sentences(text: str) -> list[str]:
    """Return the sentences of a page, without code, tables, headings, pictures and comments."""
    text = re.sub(r"^( *)```.*?^\1```$|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^( {4}.*|\||#|!).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "CODE", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^ *(?:[-*]|\d+\.) ", "\n\n", text, flags=re.MULTILINE)
    pieces = []
    for paragraph in re.split(r"\n\s*\n", text):
        plain = " ".join(paragraph.replace("*", "").split())
        pieces += [one for one in re.split(r"(?<=[.:?!]) (?=[A-Z`(])|; ", plain) if one]
    return pieces


def length(sentence: str) -> int:
    return len(re.findall(r"[\w'@/^.-]*\w", sentence))


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_sentences_are_short(page: Path) -> None:
    of_page = sentences(page.read_text(encoding="utf-8"))
    assert not [one for one in of_page if length(one) > MOST]
    assert mean(map(length, of_page)) <= MEAN


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_nothing_tells_history(page: Path) -> None:
    assert not HISTORY.findall(page.read_text(encoding="utf-8"))


def test_every_page_of_guides_and_concepts_is_read() -> None:
    names = {name_of(page) for page in WRITTEN}
    assert {"docs/index.md", "docs/guides/own-data.md", "docs/concepts/sce.md"} <= names
    assert ROOT / "docs" / "reference" / "settings.md" not in WRITTEN


def test_a_long_sentence_is_found() -> None:
    prose = f"Short one. {'Word ' * 26}end.\n\n- A point; and another\n"
    text = f"{prose}\n```\n{'code ' * 40}\n```\n| {'cell ' * 40}|\n"
    assert [length(one) for one in sentences(text)] == [2, 27, 2, 2]
