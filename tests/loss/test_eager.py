"""What torch.compile leaves as it is, and what that costs those who compile nothing."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import Tensor

from recbole_sce.loss.ops.eager import never_compiled


def test_torch_compile_calls_it_and_does_not_trace_it() -> None:
    traced: list[bool] = []

    @never_compiled
    def twice(values: Tensor) -> Tensor:
        traced.append(torch.compiler.is_compiling())
        return 2 * values

    compiled = torch.compile(lambda values: twice(values + 1) - 1, backend="eager")
    assert compiled(torch.ones(2)).tolist() == [3.0, 3.0]
    assert traced == [False]


def test_losses_do_not_import_the_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from recbole_sce.loss import CrossEntropyLoss, SampledCrossEntropyLoss, ScalableCrossEntropyLoss\n"
        "states, items = torch.randn(8, 4, requires_grad=True), torch.randn(20, 4, requires_grad=True)\n"
        "for loss in (CrossEntropyLoss(), SampledCrossEntropyLoss(4), ScalableCrossEntropyLoss()):\n"
        "    loss(states, items, torch.arange(1, 9)).backward()\n"
        "print('torch._dynamo' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip().endswith("False"), run.stdout + run.stderr
