"""Layers by fused kernels against RecBole's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from factory import prepare
from recbole.model.layers import FeedForward, MultiHeadAttention
from torch.nn import functional as F

from recbole_sce.model import encoder
from recbole_sce.model.encoder import FusedAttention, fuse_layers

MASKS = {
    "causal": torch.full((5, 5), -10_000.0).triu(1).expand(3, 1, 5, 5),
    "padded": torch.tensor([0.0, 0.0, -10_000.0, -10_000.0, -10_000.0]).expand(3, 1, 1, 5),
    "nothing to see": torch.full((3, 1, 5, 5), -10_000.0),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize(("dropout", "training"), [(0.5, False), (0.0, True)])
def test_values_and_gradients_of_attention_are_recboles(
    mask: torch.Tensor, dropout: float, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "_LEAST_LENGTH_ON_CPU", 5)
    base = MultiHeadAttention(2, 8, 0.0, dropout, 1e-12).double().train(training)
    fused = copy.deepcopy(base)
    fuse_layers(fused)
    assert type(fused) is FusedAttention
    results = []
    for module in (base, fused):
        inputs = torch.arange(120.0).double().reshape(3, 5, 8).sin().requires_grad_()
        output = module(inputs, mask.double())
        (output * torch.arange(8)).sum().backward()
        results.append((output, inputs.grad, module.query.weight.grad))
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_attention_holds_no_scores_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = MultiHeadAttention(2, 8, 0.0, 0.5, 1e-12).eval()
    fuse_layers(fused)
    monkeypatch.setattr(fused, "softmax", None)  # what RecBole's calls
    fused(torch.ones(3, 128, 8), torch.zeros(3, 1, 128, 128))
    with pytest.raises(TypeError):
        fused.train()(torch.ones(3, 128, 8), torch.zeros(3, 1, 128, 128))


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_values_and_gradients_of_gelu_are_recboles(activation: str) -> None:
    base = FeedForward(8, 32, 0.0, activation, 1e-12).double()
    fused = copy.deepcopy(base)
    fuse_layers(fused)
    assert (fused.intermediate_act_fn is F.gelu) is (activation == "gelu")
    results = []
    for module in (base, fused):
        inputs = torch.arange(120.0).double().reshape(3, 5, 8).sin().requires_grad_()
        output = module(inputs)
        (output * torch.arange(8)).sum().backward()
        results.append((output, inputs.grad, module.dense_1.weight.grad))
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_dropout_draws_as_recboles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "_LEAST_LENGTH_ON_CPU", 5)
    base = MultiHeadAttention(2, 8, 0.5, 0.5, 1e-12)
    fused = copy.deepcopy(base)
    fuse_layers(fused)
    outputs = []
    for module in (base, fused):
        torch.manual_seed(0)
        outputs.append(module(torch.ones(3, 5, 8), MASKS["causal"]))
    assert torch.equal(*outputs)


def test_a_model_has_it_and_evaluates_to_the_same_states(tiny_dataset: dict[str, Any]) -> None:
    model = prepare("SASRecSCE", "tiny", tiny_dataset).model.eval()
    kinds = {type(module) for module in model.modules() if isinstance(module, MultiHeadAttention)}
    assert kinds == {FusedAttention}
    assert {type(module) for module in copy.deepcopy(model).modules()} >= kinds
