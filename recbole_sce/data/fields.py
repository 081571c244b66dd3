"""Names of the batch fields that recbole_sce adds to RecBole's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def target_list_field(config: Mapping[str, Any]) -> str:
    """Return the name of the field of targets (B, L) int64, one a position, 0 where there is none."""
    return f"target_{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"
