"""Buckets of Scalable Cross-Entropy: their centres, and the states and items that fall into each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from recbole_sce.loss.inputs import check_count, excluded_rows
from recbole_sce.loss.ops.logits import compute_dtype
from recbole_sce.loss.sce.search import top_rows

#: Of a centre in float16: short, so that its scores with long rows stay in range.
_FLOAT16_LENGTH = 1 / 16


class Buckets(NamedTuple):
    """The states and the items of each bucket.

    ``rows`` (n_b, b_x) int64 are rows of the hidden states, ``items`` (n_b, b_y) int64 rows of the item
    embeddings. Within a bucket no row and no item occurs twice; their order has no meaning.
    """

    rows: Tensor
    items: Tensor


@torch.no_grad()
def bucket_centers(
    hidden: Tensor, n_buckets: int, mix_x: bool = True, generator: torch.Generator | None = None
) -> Tensor:
    """Draw the centres of the buckets (Scalable Cross-Entropy, arXiv 2409.18721, section 3).

    With ``mix_x`` the centres are ``Omega @ hidden`` with a Gaussian Omega (n_b, N): they lie where hidden
    states lie. Without, they are Gaussian and look into every direction alike.

    Args:
        hidden: (N, d) floating point.
        n_buckets: n_b, at least 1.
        mix_x: whether centres are mixtures of hidden states.
        generator: source of randomness, on the device of ``hidden``; None is torch's global one.

    Returns:
        The centres, (n_b, d), in the dtype of ``hidden`` (of mixtures, under autocast: in its dtype) and on
        its device. Those in float16 have one length.
    """
    check_count("n_buckets", n_buckets)
    device = hidden.device.type
    dtype = hidden.dtype
    if mix_x and torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    # Sums over N states soon leave the range of float16. Which scores of a centre are the largest does not
    # depend on its length, so that it may have one that keeps scores in range as well.
    narrow = dtype == torch.float16
    with torch.autocast(device, enabled=False):
        centers = _draw(hidden.float() if narrow else hidden, n_buckets, mix_x, generator)
    if narrow:
        centers = functional.normalize(centers, dim=1).mul_(_FLOAT16_LENGTH)
    return centers.to(dtype)


def _draw(hidden: Tensor, n_buckets: int, mix_x: bool, generator: torch.Generator | None) -> Tensor:
    basis = hidden
    if mix_x and hidden.device.type == "cpu" and hidden.size(1) < min(n_buckets, len(hidden)):
        # Gaussian mixtures of the rows of X and of the rows of R, X = QR, have the same distribution: their
        # covariance is X'X = R'R. R has d rows, not N. (A GPU mixes N rows in less time than it takes for R.)
        basis = torch.linalg.qr(hidden.to(compute_dtype(hidden)), mode="r").R.to(hidden.dtype)
    width = len(basis) if mix_x else hidden.size(1)
    noise = torch.randn(n_buckets, width, generator=generator, device=hidden.device, dtype=hidden.dtype)
    return noise @ basis if mix_x else noise


@torch.no_grad()
def select_buckets(
    hidden: Tensor,
    item_embeddings: Tensor,
    centers: Tensor,
    bucket_size_x: int,
    bucket_size_y: int,
    exclude_items: Sequence[int] = (0,),
    catalog_chunk: int | None = None,
) -> Buckets:
    """Put into each bucket the states and the items with the largest inner product with its centre.

    Args:
        hidden: (N, d) floating point.
        item_embeddings: (C, d) floating point.
        centers: (n_b, d) floating point; the search runs in its dtype.
        bucket_size_x: states a bucket, b_x; all N where N is smaller.
        bucket_size_y: items a bucket, b_y; all candidates where there are fewer.
        exclude_items: rows of ``item_embeddings`` that are never candidates. RecBole's row 0 is padding.
        catalog_chunk: items scored at a time; None chooses a number that fits the processor's cache.

    Returns:
        The buckets; rows (n_b, min(b_x, N)), items (n_b, min(b_y, candidates)), both int64.

    Raises:
        ValueError: a size is not a whole number of at least 1, or the widths d differ.
    """
    check_count("bucket_size_x", bucket_size_x)
    check_count("bucket_size_y", bucket_size_y)
    check_count("catalog_chunk", catalog_chunk)
    if not hidden.size(-1) == item_embeddings.size(-1) == centers.size(-1):
        raise ValueError(
            f"centers, hidden and item_embeddings must have rows of one width, got {centers.size(-1)}, "
            f"{hidden.size(-1)} and {item_embeddings.size(-1)}"
        )
    excluded = excluded_rows(exclude_items, len(item_embeddings))
    rows = top_rows(centers, hidden, bucket_size_x)
    return Buckets(rows, top_rows(centers, item_embeddings, bucket_size_y, excluded, catalog_chunk))


def contains(ordered: Tensor, items: Tensor) -> Tensor:
    """Return which of the ``items`` (n, m) are in the same row of ``ordered`` (n, k), ascending."""
    if ordered.size(1) == 0:
        return torch.zeros_like(items, dtype=torch.bool)
    position = torch.searchsorted(ordered, items).clamp_(max=ordered.size(1) - 1)
    return ordered.gather(1, position) == items
