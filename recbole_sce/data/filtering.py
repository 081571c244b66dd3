"""Keep users and items whose number of interactions lies in an interval, until nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.signedinteger[Any]]


@dataclass(frozen=True)
class CountRule:
    """Who is kept by the number of interactions.

    Attributes:
        codes: (n,) user (or item) of each interaction, from 0.
        allowed: from counts (c,) to whether each is allowed (c,).
        listed: (k,) codes of the users (or items) of a feature file, -1 for one that has none.
        listed_minimum: fewest interactions with which one of ``listed`` is kept.
    """

    codes: Codes
    allowed: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]]
    listed: Codes
    listed_minimum: float


def filter_by_counts(
    user_rule: CountRule, item_rule: CountRule
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Apply both rules in rounds until all that is left satisfies both (k-core, where they are minima).

    RecBole: ``Dataset._filter_by_inter_num``.

    Returns:
        Numbers (m,) of the interactions left (None: all of them), and which of the users and of the items in
        ``listed`` are left.
    """
    rules = (user_rule, item_rule)
    left = None
    codes = [rule.codes for rule in rules]
    listed_left = [np.ones(len(rule.listed), dtype=bool) for rule in rules]
    while True:
        bans = []
        for side, rule in enumerate(rules):
            # A slot for each code, those without interactions included, and one for code -1: it counts 0.
            largest = max(rule.codes.max(initial=-1), rule.listed.max(initial=-1))
            counts = np.bincount(codes[side], minlength=int(largest) + 2)
            banned = (counts > 0) & ~rule.allowed(counts)
            listed_banned = listed_left[side] & (
                banned[rule.listed] | (counts[rule.listed] < rule.listed_minimum)
            )
            banned[rule.listed[listed_banned]] = True
            listed_left[side] &= ~listed_banned
            bans.append(banned)
        if not any(banned.any() for banned in bans):
            return left, listed_left[0], listed_left[1]
        keep = np.flatnonzero(~(bans[0][codes[0]] | bans[1][codes[1]]))
        left = keep if left is None else left[keep]
        codes = [side_codes[keep] for side_codes in codes]
