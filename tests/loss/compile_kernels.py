"""Compile the kernels, in their real tiles, for a GPU that need not be there, and print what each spills.

    python tests/loss/compile_kernels.py CAPABILITY DTYPE     # such as 90 bfloat16

It runs in a process of its own: the capability cannot be changed once something is compiled. Every call of a
kernel that the module makes compiles it, for its arguments, and runs nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from recbole_sce.loss.ops import triton_kernels
from recbole_sce.loss.ops.memory import RowGradient

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


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
            print(self.name, spilled_bytes(compiled.asm["cubin"]))

        return launch


def spilled_bytes(cubin: bytes) -> int:
    """Return the bytes that a thread of a compiled kernel keeps outside its registers."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run(
            [CUOBJDUMP, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    return max(int(size) for size in re.findall(r"STACK:(\d+)", usage))


def main() -> None:
    capability, dtype = int(sys.argv[1]), getattr(torch, sys.argv[2])
    driver.set_active(Driver(capability))
    for name in [name for name in vars(triton_kernels) if name.endswith("_kernel")]:
        setattr(triton_kernels, name, Compiling(name))
    hidden, items = torch.zeros(400, 64, dtype=dtype), torch.zeros(700, 64, dtype=dtype)
    rows, bucket_items = torch.zeros(2, 200, dtype=torch.int64), torch.zeros(2, 300, dtype=torch.int64)
    targets, winners, one = torch.zeros(400, dtype=torch.int64), torch.arange(3), torch.ones(())
    triton_kernels._open_blocks(hidden, items, targets.char(), rows)
    triton_kernels._block_maxima(hidden, items, targets.char())
    triton_kernels.bucket_totals(hidden, items, targets, rows, bucket_items)
    grad_items = RowGradient(items, torch.float32, bucket_items)
    grad_hidden = torch.zeros(401, 64)
    triton_kernels.add_gradients(
        hidden, items, rows, bucket_items, winners, torch.zeros(3), one, grad_hidden, grad_items
    )


if __name__ == "__main__":
    main()
