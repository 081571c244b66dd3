"""A minute of settings at random: each gives a result, twice the same, or one paragraph that names a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import combinations
import pytest
from combinations import Case, Outcome
from logs import write_shop

from recbole_sce.settings import KEYS


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    write_shop(tmp_path, "shop")
    return tmp_path


def test_the_table_has_every_key_of_recbole_sce() -> None:
    assert set(KEYS) <= set(combinations.TABLE)


@pytest.mark.slow
def test_a_minute_of_combinations(shop: Path) -> None:
    """As many cases as a minute of a free core takes, so that a busy machine tests the same."""
    counts, faults, _ = combinations.search(2020, shop, n_cases=60)
    assert counts["result"] > 5
    assert counts["refused"] > 5
    assert not faults, "\n".join(map(str, faults))


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome(None, "SettingsError", "epochs must be a whole number, got 'x'"), ""),
        (Outcome(None, "SettingsError", "impossible"), "no key is named"),
        (Outcome(None, "KeyError", "'epochs'"), "an error of another layer"),
        (Outcome(None, "ValueError", "epochs\n\nand more"), "more than one paragraph"),
        (Outcome(None, "_Hanging", "no result"), "it hangs"),
    ],
)
def test_what_counts_as_an_answer(outcome: Any, why: str) -> None:
    case = Case("SASRecSCE", {"epochs": "x"}, "config_dict")
    assert combinations._why_no_message(case, outcome) == why


def test_a_result_that_changes_is_a_fault(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([Outcome({"ndcg@10": 0.1}), Outcome({"ndcg@10": 0.2})])
    monkeypatch.setattr(combinations, "run", lambda case, data: next(results))
    what, fault = combinations.judge(Case("SASRecSCE", {}, "config_dict"), shop)
    assert what == "failed"
    assert fault is not None
    assert "another result" in fault.why
