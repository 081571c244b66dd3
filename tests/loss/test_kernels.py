from __future__ import annotations

from types import SimpleNamespace

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


@pytest.mark.parametrize(
    ("capability", "suits"), [((7, 5), False), ((8, 0), False), ((8, 6), True), ((12, 0), True)]
)
def test_an_old_gpu_keeps_pytorch_and_is_named_once(
    capability: tuple[int, int],
    suits: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("RECBOLE_SCE_TRITON", "1")
    monkeypatch.setattr(kernels, "find_spec", lambda name: name)
    monkeypatch.setattr(kernels, "import_module", lambda name: SimpleNamespace(supports=lambda dtype: True))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    kernels._suits.cache_clear()
    tensor = SimpleNamespace(is_cuda=True, device="cuda", dtype=torch.float32)
    assert [kernels.kernels_for(tensor) is not None for _ in range(2)] == [suits, suits]
    needs = "RECBOLE_SCE_TRITON: 1 needs a GPU of compute capability 8.6 or later, got"
    assert sum(needs in message for message in caplog.messages) == (not suits)
    kernels._suits.cache_clear()
