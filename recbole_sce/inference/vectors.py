"""Item vectors for other programs: as a table, and as a FAISS index whose recall is measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recbole_sce.evaluator.topk import stream_topk
from recbole_sce.utils.requirements import missing_package

Vectors = npt.NDArray[np.float32]

#: Below this many items a scan of all is fast, and needs no index that misses some.
EXACT_BELOW = 10_000
#: An inverted file of sqrt(C) lists; this share of them is searched.
_PROBED = 1 / 8


def save_item_vectors(path: Path, ids: npt.NDArray[np.str_], vectors: Vectors) -> Path:
    """Write ``vectors`` (C, d) to ``path`` as .npy, and the original ids (C,), one a line, beside it.

    Returns:
        The file of the ids: ``<path>`` with the suffix ``.ids.txt``.
    """
    with path.open("wb") as file:
        np.save(file, vectors)
    ids_path = path.with_suffix(".ids.txt")
    ids_path.write_text("".join(f"{item}\n" for item in ids), encoding="utf-8")
    return ids_path


def build_index(vectors: Vectors) -> Any:
    """Return a FAISS index of ``vectors`` (C, d) by inner product; its ids are the rows of ``vectors``.

    A flat one, which is exact, for fewer than :data:`EXACT_BELOW` items; an inverted file for more.

    Raises:
        ImportError: FAISS is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise missing_package("faiss-cpu", "a FAISS index", error) from error
    n_items, width = vectors.shape
    vectors = np.ascontiguousarray(vectors)
    n_lists = int(math.sqrt(n_items))
    kind = "Flat" if n_items < EXACT_BELOW else f"IVF{n_lists},Flat"
    index: Any = faiss.index_factory(width, kind, faiss.METRIC_INNER_PRODUCT)
    if n_items >= EXACT_BELOW:
        index.train(vectors)
        index.nprobe = max(1, round(n_lists * _PROBED))
    index.add(vectors)
    return index


def write_index(index: Any, path: Path) -> None:
    """Write a FAISS index to ``path``."""
    import faiss

    faiss.write_index(index, str(path))


def recall(index: Any, vectors: Vectors, queries: Vectors, k: int) -> float:
    """Return recall@k of ``index``: the share of the exact first k that it finds, averaged over queries.

    Args:
        index: FAISS index of ``vectors``.
        vectors: (C, d).
        queries: (Q, d), at least one.
        k: 1 to C.
    """
    neighbours = index.search(np.ascontiguousarray(queries), k)[1]  # (Q, k), -1 where it found fewer
    padded = torch.from_numpy(np.concatenate([np.zeros_like(vectors[:1]), vectors]))  # row 0 is never ranked
    exact = stream_topk(torch.from_numpy(queries), padded, k)[1].numpy() - 1  # (Q, k)
    hits = [len(np.intersect1d(a, b)) for a, b in zip(neighbours, exact)]
    return float(np.mean(hits)) / k
