"""Tokens by id, as a checkpoint holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_sce.data.ids import TokenIds

texts = st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), unique=True).map(
    lambda tokens: np.array(["[PAD]", *tokens])
)


@given(texts, texts)
def test_packed_tokens_come_back(items: Any, users: Any) -> None:
    ids = TokenIds({"item": items, "user": users, "alias": items})
    assert len(ids.packed["lists"]) == 2  # an alias has the tokens of its field
    again = TokenIds.unpacked(ids.packed)
    assert {field: tokens.tolist() for field, tokens in again.fields.items()} == {
        field: tokens.tolist() for field, tokens in ids.fields.items()
    }
    assert ids.differing(again) == []
    assert ids.differing(TokenIds({"item": items[::-1]})) == (["item"] if len(items) > 1 else [])
    assert ids.differing(TokenIds({"more": items})) == []


def test_they_take_little_more_than_their_letters() -> None:
    tokens = np.array(["[PAD]", *(f"B{number:09d}" for number in range(100_000))])
    packed = TokenIds({"item": tokens}).packed
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in packed["lists"][0].values())
    assert n_bytes == 100_000 * (10 + 4) + 9


PACKED: Any = TokenIds({"item": np.array(["[PAD]", "a", "bc"])}).packed


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        {"fields": {"item": 0}},
        {"fields": {"item": 3}, "lists": PACKED["lists"]},
        {"fields": {"item": 0}, "lists": [{"bytes": PACKED["lists"][0]["bytes"]}]},
        {"fields": {"item": 0}, "lists": [{**PACKED["lists"][0], "lengths": torch.tensor([5, 1, 3])}]},
        {"fields": {"item": 0}, "lists": [{**PACKED["lists"][0], "lengths": torch.tensor([9, -1, 0])}]},
        {"fields": {"item": 0}, "lists": [{**PACKED["lists"][0], "bytes": torch.full((8,), 0xFF).byte()}]},
        {"fields": {"item": 0}, "lists": [{**PACKED["lists"][0], "bytes": torch.zeros(8)}]},
        {"fields": {"item": 0}, "lists": [{"bytes": torch.zeros(0).byte(), "lengths": torch.zeros(0).int()}]},
    ],
)
def test_other_content_is_refused(damaged: Any) -> None:
    with pytest.raises(ValueError, match=r"form that was written|do not fit|decode"):
        TokenIds.unpacked(damaged)
