"""Memory that costs little: workspaces that stay in cache, and gradients that are mostly zeros."""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

#: A workspace of this size stays in the caches of a few current cores.
_CPU_WORKSPACE = 4 * 2**20
#: Elsewhere a workspace only has to be large enough to keep the device busy.
_DEVICE_WORKSPACE = 128 * 2**20
#: Below this size the C library's allocator reuses memory, which is cheaper than asking the system.
_LARGE = 32 * 2**20


def workspace_bytes(device: torch.device) -> int:
    """Return the size in bytes that a temporary which is filled again and again should have."""
    return _CPU_WORKSPACE if device.type == "cpu" else _DEVICE_WORKSPACE


def tile_bytes(device: torch.device) -> int:
    """Return the size in bytes of a tile of logits of all items, one of many.

    On CUDA a tile may take a 64th of the memory. Each costs about 20 launches: of 2 ** 20 items and 12,800
    states, 80 GiB then make 40 tiles.
    """
    if device.type != "cuda":
        return workspace_bytes(device) // 2
    total = int(torch.cuda.get_device_properties(device).total_memory)
    return max(_DEVICE_WORKSPACE // 2, total // 64)


def lazy_zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return zeros of which, on Linux, only the parts that are touched cost anything.

    The dense gradient of a large table of which a loss touches few rows is almost all zeros. To write them,
    with a page fault every 4 KiB, can cost more than the rest of the loss. Fresh pages of the system are
    zeros already, and huge ones (2 MiB, where the system grants them) make few faults.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or not sys.platform.startswith("linux") or n_bytes < _LARGE:
        return torch.zeros(tuple(shape), dtype=dtype, device=device)
    pages = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(tuple(shape))


class RowGradient:
    """The gradient of a table, summed row by row.

    Args:
        table: (C, d), the tensor whose gradient it is.
        dtype: of the sums. Where the table's own is another one (a half precision), the touched rows are
            summed apart and rounded once.
        touched: int64 of any shapes; no row outside them is ever added to.
        sparse: whether :meth:`result` is to name the touched rows instead of holding all.
        compact: whether only the touched rows are held until :meth:`result`.
    """

    def __init__(
        self, table: Tensor, dtype: torch.dtype, *touched: Tensor, sparse: bool = False, compact: bool = False
    ) -> None:
        # The table's shape and dtype, not the table: who keeps a gradient must not keep the table's graph.
        self._shape, self._dtype, self._device = table.shape, table.dtype, table.device
        self._sparse = sparse
        self._ids: Tensor | None = None
        n_rows = len(table)
        if sparse or compact or table.dtype != dtype:
            marked = torch.zeros(n_rows, dtype=torch.bool, device=table.device)
            for rows in touched:
                marked.index_fill_(0, rows.reshape(-1), True)
            self._ids = marked.nonzero().squeeze(1)
            n_rows = len(self._ids)
            # Of rows that are not touched it stays unwritten, so that a large table costs nothing.
            self._slots = torch.empty(len(table), dtype=torch.int64, device=table.device)
            self._slots[self._ids] = torch.arange(n_rows, device=table.device)
        #: (R, d) in ``dtype``, the sums so far; :meth:`slots` says which row is whose.
        self.sums = lazy_zeros((n_rows, table.size(1)), dtype, table.device)

    def slots(self, rows: Tensor) -> Tensor:
        """Return, for int64 ``rows`` of any shape, where ``sums`` has them; in the same shape."""
        return rows if self._ids is None else self._slots[rows]

    def add(self, rows: Tensor, values: Tensor) -> None:
        """Add ``values`` (*rows.shape, d) to the rows that int64 ``rows`` names; a row may occur often."""
        slots = self.slots(rows.reshape(-1))
        self.sums.index_add_(0, slots, values.reshape(len(slots), values.size(-1)))

    def result(self, scale: Tensor | None = None) -> Tensor:
        """Return the gradient, (C, d) in the table's dtype; a coalesced COO tensor if it is to be sparse.

        Args:
            scale: scalar, what the sums are multiplied with. None is 1, and the sums themselves may be
                returned.
        """
        sums = self.sums if scale is None else self.sums * scale
        if self._ids is None:
            return sums
        sums = sums.to(self._dtype)
        if self._sparse:
            ids = self._ids.unsqueeze(0)
            return torch.sparse_coo_tensor(ids, sums, self._shape, is_coalesced=True, check_invariants=False)
        return lazy_zeros(self._shape, self._dtype, self._device).index_copy_(0, self._ids, sums)
