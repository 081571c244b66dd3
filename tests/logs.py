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


def write_shop(folder: Path, name: str, n_users: int = 24, n_items: int = 30, width: int = 8) -> None:
    """Write a log with everything that RecBole reads beside one: item and user features, graph, benchmark.

    Columns: ``.inter`` user_id, item_id, rating, timestamp; ``.item`` kind, price, words; ``.user`` age,
    town; ``.kg`` and ``.link``; vectors of entities and relations in ``.ent`` and ``.rel``; histories with
    their targets in ``NAME.train.inter``, ``NAME.valid.inter`` and ``NAME.test.inter``.
    """
    rng = np.random.default_rng(1)
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(suffix: str, columns: str, rows: list[str]) -> None:
        (path.parent / f"{name}.{suffix}").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")

    def vector() -> str:
        return " ".join(f"{x:.3f}" for x in rng.standard_normal(width))

    log: list[str] = []
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for user in range(n_users):
        walk = [int(rng.integers(n_items))]
        for _ in range(int(rng.integers(5, 12))):
            walk.append((walk[-1] + 1) % n_items if rng.random() < 0.8 else int(rng.integers(n_items)))
        log += [f"u{user}\ti{item}\t{1 + item % 5}\t{100 * user + step}" for step, item in enumerate(walk)]
        for step in range(1, len(walk)):
            part = {len(walk) - 1: "test", len(walk) - 2: "valid"}.get(step, "train")
            history = " ".join(f"i{item}" for item in walk[max(0, step - 8) : step])
            parts[part].append(f"u{user}\t{history}\ti{walk[step]}")
    items, users = range(n_items), range(n_users)
    write("inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float", log)
    for part, rows in parts.items():
        write(f"{part}.inter", "user_id:token\titem_id_list:token_seq\titem_id:token", rows)
    write(
        "item",
        "item_id:token\tkind:token\tprice:float\twords:token_seq",
        [f"i{i}\tk{i % 4}\t{i + 0.5}\tw{i % 3} w{3 + i % 4}" for i in items],
    )
    write("user", "user_id:token\tage:float\ttown:token", [f"u{u}\t{20 + u}\tt{u % 3}" for u in users])
    write("link", "item_id:token\tentity_id:token", [f"i{i}\te{i}" for i in items])
    write(
        "kg",
        "head_id:token\trelation_id:token\ttail_id:token",
        [f"e{i}\tr{i % 3}\te{(i + 1 + i % 3) % n_items}" for i in items],
    )
    write("ent", "ent_id:token\tent_vec:float_seq", [f"e{i}\t{vector()}" for i in items])
    write("rel", "rel_id:token\trel_vec:float_seq", [f"r{r}\t{vector()}" for r in range(3)])
