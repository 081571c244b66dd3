"""What the simulated device must catch: mistakes that a real one refuses, and reads that it pays for."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

simulated_cuda = pytest.importorskip("simulated_cuda", exc_type=ImportError)
DeviceMismatch = simulated_cuda.DeviceMismatch


@pytest.fixture
def cuda() -> Iterator[Any]:
    with simulated_cuda.SimulatedCuda() as device:
        yield device


def test_tensors_say_where_they_are(cuda: Any) -> None:
    x = torch.randn(4, 5, device="cuda")
    assert x.device == torch.device("cuda", 0)
    assert x.is_cuda
    assert not x.is_cpu
    made = (x + 1, x.t(), x[1:].clone(), torch.zeros_like(x), x.new_zeros(2), x.sum(), x.topk(2).values)
    assert all(each.is_cuda for each in made)
    assert x.cpu().is_cpu


MIXED: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda x, c: x + c,
    "product": lambda x, c: x @ c.T,
    "join": lambda x, c: torch.cat([x, c]),
    "rows": lambda x, c: x.index_select(0, torch.tensor([1])),
    "cells": lambda x, c: x.gather(1, torch.zeros(4, 1, dtype=torch.long)),
    "choice": lambda x, c: torch.where(x > 0, x, c),
    "lookup": lambda x, c: torch.nn.functional.embedding(torch.tensor([1]), x),
    "sums of rows": lambda x, c: x.index_add_(0, torch.arange(4), x),
    "values written": lambda x, c: x.__setitem__(slice(0, 2), c[:2]) or x + c,
    "CPU rows of the device": lambda x, c: c[torch.zeros(2, dtype=torch.long, device="cuda")],
}


@pytest.mark.parametrize("mistake", MIXED.values(), ids=MIXED.keys())
def test_a_forgotten_move_is_refused(cuda: Any, mistake: Callable[[Any, Any], Any]) -> None:
    with pytest.raises(DeviceMismatch):
        mistake(torch.randn(4, 5, device="cuda"), torch.randn(4, 5))


def test_a_forgotten_move_is_refused_in_backward(cuda: Any) -> None:
    class Forgetful(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return grad + torch.zeros(3)

    with pytest.raises(DeviceMismatch):
        Forgetful.apply(torch.randn(3, device="cuda", requires_grad=True)).sum().backward()


def test_numbers_of_the_cpu_are_allowed(cuda: Any) -> None:
    x = torch.randn(4, 5, device="cuda")
    assert (x + torch.tensor(2.0)).is_cuda
    assert torch.where(x > 0, x, torch.tensor(0.0)).is_cuda


def test_numpy_is_refused(cuda: Any) -> None:
    x = torch.randn(4, device="cuda")
    for read in (x.numpy, lambda: np.asarray(x)):
        with pytest.raises(TypeError, match="numpy"):
            read()


def test_a_generator_of_the_other_device_is_refused(cuda: Any) -> None:
    x = torch.randn(3, device="cuda")
    for draw in (
        lambda: torch.randn(3, device="cuda", generator=torch.Generator()),
        lambda: torch.randn(3, generator=torch.Generator("cuda")),
        lambda: x.normal_(generator=torch.Generator()),
    ):
        with pytest.raises(DeviceMismatch, match="generator"):
            draw()
    x.normal_(generator=torch.Generator("cuda"))


WAITS: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "item": (lambda x: x.sum().item(), ["item"]),
    "bool": (lambda x: bool((x > 0).any()), ["item"]),
    "int": (lambda x: int(x[0, 0]), ["item"]),
    "tolist": (lambda x: x[0].tolist(), ["tolist"]),
    "nonzero": (lambda x: x.nonzero(), ["nonzero"]),
    "mask": (lambda x: x[x > 0], ["mask as index"]),
    "filled mask": (lambda x: x.__setitem__(x > 0, 0.0), []),
    "CPU index": (lambda x: x[torch.tensor([1])], ["CPU index, copied"]),
    "list as index": (lambda x: x.__setitem__((slice(None), [1]), -1.0), ["CPU index, copied"]),
    "slice": (lambda x: x.__setitem__((slice(None), 0), -torch.inf), []),
    "new tensor": (lambda x: torch.tensor(3, device="cuda"), ["copy to device (torch.tensor)"]),
    "copy": (lambda x: torch.ones(2).to("cuda"), ["copy to device"]),
    "not pinned": (lambda x: torch.ones(2).to("cuda", non_blocking=True), ["copy to device"]),
    "blocking": (lambda x: torch.ones(2).pin_memory().to("cuda"), ["copy to device"]),
    "pinned": (lambda x: torch.ones(2).pin_memory().to("cuda", non_blocking=True), []),
    "unique": (torch.unique, ["unique"]),
    "copy to host": (lambda x: x.cpu(), ["copy to host"]),
    "repeats": (lambda x: x[0].long().repeat_interleave(x[0].long().abs()), ["repeat_interleave"]),
    "arithmetic": (lambda x: (x @ x.T).softmax(1).topk(2).values.sum(), []),
}


@pytest.mark.parametrize(("read", "kinds"), WAITS.values(), ids=WAITS.keys())
def test_waits_are_counted(cuda: Any, read: Callable[[Any], Any], kinds: list[str]) -> None:
    x = torch.randn(4, 5, device="cuda")
    read(x)
    assert [sync.kind for sync in cuda.syncs] == kinds


def test_modules_their_files_and_their_optimisers_are_on_it(cuda: Any) -> None:
    linear = torch.nn.Linear(5, 3).to("cuda")
    linear(torch.randn(4, 5, device="cuda")).sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.is_cuda
    assert copy.deepcopy(linear).weight.is_cuda
    file = io.BytesIO()
    torch.save(linear.state_dict(), file)
    for location, on_device in ((None, True), ("cpu", False)):
        file.seek(0)
        weight = torch.load(file, location, weights_only=True)["weight"]
        assert weight.is_cuda == on_device
    optimizer = torch.optim.Adam(linear.parameters())
    optimizer.step()
    assert optimizer.state[linear.weight]["exp_avg"].is_cuda


def test_sparse_gradients_are_on_it(cuda: Any) -> None:
    embedding = torch.nn.Embedding(6, 2, sparse=True).to("cuda")
    embedding(torch.tensor([1, 1], device="cuda")).sum().backward()
    gradient = embedding.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    assert gradient.coalesce().values().is_cuda


def test_its_random_state_is_its_own(cuda: Any) -> None:
    torch.manual_seed(3)
    state = torch.cuda.get_rng_state_all()
    first = torch.randn(3, device="cuda")
    torch.randn(3)
    torch.cuda.set_rng_state(state[0], 0)
    assert torch.equal(first, torch.randn(3, device="cuda"))


def test_its_memory_is_counted(cuda: Any) -> None:
    before = cuda.allocated
    x = torch.empty(1000, device="cuda")
    assert cuda.allocated == before + 4000
    del x
    assert cuda.allocated == before


def test_nothing_is_left_behind() -> None:
    with simulated_cuda.SimulatedCuda():
        assert torch.cuda.is_available()
    assert torch.zeros(1).device.type == "cpu"
    assert torch.cuda.is_available() == (torch.cuda.device_count() > 0)
