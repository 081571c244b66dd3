"""Compile the kernels for a GPU that need not be there; run in a process of its own by test_triton.py.

Every call of a kernel that the module makes compiles it, for its arguments, and runs nothing.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from recbole_sce.loss.ops import triton_kernels
from recbole_sce.loss.ops.memory import RowGradient


class Driver:
    """What the compiler asks of a GPU."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0


class Compiling:
    """Stands in for a kernel."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kernel = getattr(triton_kernels, name)

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*arguments: Any, **settings: Any) -> None:
            compiled = self.kernel.warmup(*arguments, grid=grid, **settings)
            print(self.name, len(compiled.asm["cubin"]) > 0)

        return launch


def main() -> None:
    capability, dtype = int(sys.argv[1]), getattr(torch, sys.argv[2])
    driver.set_active(Driver(capability))
    for name in [name for name in vars(triton_kernels) if name.endswith("_kernel")]:
        setattr(triton_kernels, name, Compiling(name))
    # Small tiles compile quickly.
    triton_kernels._QUERIES = triton_kernels._STATES = triton_kernels._ITEMS = 16
    triton_kernels._BLOCKS = triton_kernels._OPENED = 1
    hidden, items = torch.zeros(40, 16, dtype=dtype), torch.zeros(70, 16, dtype=dtype)
    rows, bucket_items = torch.zeros(2, 20, dtype=torch.int64), torch.zeros(2, 30, dtype=torch.int64)
    targets, winners, one = torch.zeros(40, dtype=torch.int64), torch.arange(3), torch.ones(())
    triton_kernels._open_blocks(hidden, items, targets.char(), rows)
    triton_kernels._block_maxima(hidden, items, targets.char())
    triton_kernels.bucket_totals(hidden, items, targets, rows, bucket_items)
    grad_items = RowGradient(items, torch.float32, bucket_items)
    grad_hidden = torch.zeros(41, 16)
    triton_kernels.add_gradients(
        hidden, items, rows, bucket_items, winners, torch.zeros(3), one, grad_hidden, grad_items
    )


if __name__ == "__main__":
    main()
