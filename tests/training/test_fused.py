"""Fused optimisers take the steps of the unfused ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recbole_sce.training.fused import fused


def weights() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((50, 8), (8,), ())]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_steps_are_those_of_the_unfused_optimiser(kind: Any) -> None:
    plain, quick = weights(), weights()
    optimizers = kind(plain, lr=0.01, weight_decay=0.1), fused(kind(quick, lr=0.01, weight_decay=0.1))
    assert type(optimizers[1]) is kind
    assert optimizers[1].param_groups[0]["fused"] is True
    for step in range(20):
        for parameters, optimizer in zip((plain, quick), optimizers):
            for parameter in parameters:
                parameter.grad = torch.sin(parameter.detach() * (step + 1))
            optimizer.step()
    for one, other in zip(plain, quick):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert (plain[0] - weights()[0]).abs().max() > 0.1


def test_any_other_optimiser_stays() -> None:
    optimizer = torch.optim.SGD(weights(), lr=0.1)
    assert fused(optimizer) is optimizer


@pytest.mark.parametrize("options", [{"device": "meta"}, {"dtype": torch.complex64}])
def test_weights_without_a_fused_form_keep_the_unfused_one(options: dict[str, Any]) -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2, **options))])
    assert fused(optimizer) is optimizer
