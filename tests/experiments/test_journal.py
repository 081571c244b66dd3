from __future__ import annotations

from pathlib import Path

import pytest

from recbole_sce.experiments.journal import Journal
from recbole_sce.experiments.spec import ExperimentError


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    journal = Journal(path, {"model": "Pop", "files": ("a",)}, resume=False)
    journal.add({"trial": 0, "score": 0.0})
    assert len(path.read_text().splitlines()) == 2
    again = Journal(path, {"model": "Pop", "files": ("a",)}, resume=True)
    assert again.trials == [{"trial": 0, "score": 0.0}]


@pytest.mark.parametrize("torn", [b'{"trial": 1, "sco', b"{"])
def test_a_line_that_was_being_written_is_dropped(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "trials.jsonl"
    Journal(path, {}, resume=False).add({"trial": 0})
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    journal = Journal(path, {}, resume=True)
    assert journal.trials == [{"trial": 0}]
    journal.add({"trial": 1})
    assert Journal(path, {}, resume=True).trials == [{"trial": 0}, {"trial": 1}]


def test_a_torn_header_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(b'{"model": "P')
    assert Journal(path, {"model": "Pop"}, resume=True).trials == []
    Journal(path, {"model": "Pop"}, resume=True)


def test_a_search_is_not_continued_by_accident(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    Journal(path, {"model": "Pop"}, resume=False)
    with pytest.raises(ExperimentError, match="--resume"):
        Journal(path, {"model": "Pop"}, resume=False)
    with pytest.raises(ExperimentError, match="model was 'Pop' and is 'BPR'"):
        Journal(path, {"model": "BPR"}, resume=True)
    with pytest.raises(ExperimentError, match="another search: loss_type was not set and is None"):
        Journal(path, {"model": "Pop", "loss_type": None}, resume=True)
