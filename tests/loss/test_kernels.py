from __future__ import annotations

import pytest
import torch

from recbole_sce.loss import ScalableCrossEntropyLoss
from recbole_sce.loss.ops import kernels


def test_a_value_that_is_no_switch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECBOLE_SCE_TRITON", "yes")
    with pytest.raises(ValueError, match="RECBOLE_SCE_TRITON must be 0 or 1, got 'yes'"):
        ScalableCrossEntropyLoss(complete_softmax=False)(
            torch.randn(5, 3), torch.randn(9, 3), torch.tensor([1, 2, 3, 4, 5])
        )


def test_kernels_without_triton_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECBOLE_SCE_TRITON", "1")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="RECBOLE_SCE_TRITON: 1 needs triton"):
        kernels.kernels_for(torch.empty(1))
