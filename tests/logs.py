"""Interaction logs that tests make for themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_log(
    folder: Path, name: str, n_users: int = 60, n_items: int = 40, seed: int = 0, min_length: int = 6
) -> Path:
    """Write ``folder/name/name.inter``: users who walk the catalogue mostly from an item to the next one."""
    rng = np.random.default_rng(seed)
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(n_users):
        item = int(rng.integers(n_items))
        for step in range(int(rng.integers(min_length, 22))):
            item = (item + 1) % n_items if rng.random() < 0.8 else int(rng.integers(n_items))
            # seconds since 1970, 30 s apart: closer than float32 can tell
            rows.append(f"u{user}\ti{item}\t{rng.integers(1, 6)}\t{1_600_000_000 + user * 7 + 30 * step}")
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
