"""Row-wise Adam against torch's."""

from __future__ import annotations

import io
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from recbole_sce.training.row_adam import RowAdam


def sparse(gradient: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The rows of a dense gradient, each split into two entries of the same index."""
    halves = torch.cat([gradient[rows] * 0.25, gradient[rows] * 0.75])
    return torch.sparse_coo_tensor(
        torch.cat([rows, rows]).unsqueeze(0), halves, gradient.shape, check_invariants=True
    )


def twins(n_rows: int = 40) -> tuple[nn.Parameter, torch.optim.Adam, nn.Parameter, RowAdam]:
    start = torch.randn(n_rows, 3, dtype=torch.float64)
    dense, rows = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": 0.01, "betas": (0.9, 0.98)}
    return dense, torch.optim.Adam([dense], **options), rows, RowAdam([rows], **options)


def test_rows_touched_in_every_step_are_adams_and_others_stay() -> None:
    dense, adam, table, row_adam_ = twins()
    before = table.detach().clone()
    touched = torch.tensor([3, 17, 4])
    for _ in range(30):
        gradient = torch.zeros_like(dense)
        gradient[touched] = torch.randn(3, 3, dtype=torch.float64)
        dense.grad, table.grad = gradient, sparse(gradient, touched)
        adam.step()
        row_adam_.step()
    assert torch.allclose(table, dense, rtol=0, atol=1e-12)
    untouched = torch.ones(40, dtype=torch.bool).index_fill(0, touched, False)
    assert torch.equal(table[untouched], before[untouched])
    assert not torch.equal(table[touched], before[touched])


def test_hooks_see_each_step_once_and_whole() -> None:
    _, _, table, row_adam_ = twins()
    before, seen = table.detach().clone(), []
    row_adam_.register_step_pre_hook(lambda *_: seen.append(torch.equal(table, before)))
    row_adam_.register_step_post_hook(lambda *_: seen.append(torch.equal(table, before)))
    table.grad = sparse(torch.ones_like(table), torch.tensor([3]))
    row_adam_.step()
    assert seen == [True, False]


def test_rows_touched_now_and_then_follow_adam() -> None:
    dense, adam, table, row_adam_ = twins(400)
    lazy = nn.Parameter(dense.detach().clone())  # moments that wait, and moves that are never made
    lazy_adam = torch.optim.SparseAdam([lazy], lr=0.01, betas=(0.9, 0.98))
    for step in range(300):
        touched = torch.randperm(400)[:20] if step < 299 else torch.arange(400)
        untouched = torch.ones(400, dtype=torch.bool).index_fill(0, touched, False)
        before = table.detach()[untouched].clone()
        gradient = torch.zeros_like(dense)
        gradient[touched] = torch.randn(len(touched), 3, dtype=torch.float64)
        dense.grad, table.grad = gradient, sparse(gradient, touched)
        lazy.grad = table.grad.clone()
        adam.step()
        lazy_adam.step()
        row_adam_.step()
        assert torch.equal(table[untouched], before)
    apart = (dense - table).abs().mean()
    assert apart < 0.003  # a third of a step
    assert apart < 0.1 * (dense - lazy).abs().mean()


def test_moments_are_adams_after_missed_steps() -> None:
    dense, adam, table, row_adam_ = twins()
    for step in range(25):
        gradient = torch.zeros_like(dense)
        if step in (0, 1, 24):
            gradient[5] = step + 1.0
        dense.grad, table.grad = gradient, sparse(gradient, torch.tensor([5] if gradient.any() else [9]))
        adam.step()
        row_adam_.step()
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.allclose(row_adam_.state[table][name][5], adam.state[dense][name][5], atol=1e-14), name


def test_dense_gradients_are_adams() -> None:
    model = nn.Linear(4, 2)
    twin = nn.Linear(4, 2)
    twin.load_state_dict(model.state_dict())
    ours, adams = RowAdam(model.parameters(), lr=0.1), torch.optim.Adam(twin.parameters(), lr=0.1)
    for _ in range(3):
        for net, optimizer in ((model, ours), (twin, adams)):
            optimizer.zero_grad()
            net(torch.ones(1, 4)).square().sum().backward()
            optimizer.step()
    assert torch.equal(model.weight, twin.weight)


def test_a_saved_state_goes_on_where_it_was() -> None:
    _, _, table, optimizer = twins()
    gradients = [torch.randn_like(table) for _ in range(4)]
    rows = [torch.tensor([1, 2]), torch.tensor([2, 3]), torch.tensor([5]), torch.tensor([1, 3])]
    for gradient, touched in zip(gradients[:2], rows):
        table.grad = sparse(gradient, touched)
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    copy = nn.Parameter(table.detach().clone())
    resumed = RowAdam([copy])
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.state[copy]["row_step"].dtype == torch.int32
    assert resumed.state[copy]["row_decay"].dtype == torch.float64
    for gradient, touched in zip(gradients[2:], rows[2:]):
        for parameter, which in ((table, optimizer), (copy, resumed)):
            parameter.grad = sparse(gradient, touched)
            which.step()
    assert torch.equal(table, copy)


@pytest.mark.parametrize("option", ["amsgrad", "maximize"])
def test_options_that_change_every_row_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=option):
        RowAdam([nn.Parameter(torch.zeros(2, 2))], **{option: True})


def decayed(n_rows: int, weight_decay: float) -> tuple[nn.Parameter, Any, nn.Parameter, RowAdam]:
    start = torch.randn(n_rows, 3, dtype=torch.float64)
    dense, rows = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": weight_decay}
    return dense, torch.optim.AdamW([dense], **options), rows, RowAdam([rows], **options)


def step_both(dense: Any, adamw: Any, table: Any, row_adam: RowAdam, touched: torch.Tensor) -> None:
    gradient = torch.zeros_like(dense)
    gradient[touched] = torch.randn(len(touched), 3, dtype=torch.float64)
    dense.grad, table.grad = gradient, sparse(gradient, touched)
    adamw.step()
    row_adam.step()


def test_rows_without_a_step_decay_exactly_once_caught_up() -> None:
    dense, adamw, table, row_adam_ = decayed(40, 0.5)
    before = table.detach().clone()
    for step in range(50):
        for optimizer in (adamw, row_adam_):
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)  # decay follows each step's own rate
        step_both(dense, adamw, table, row_adam_, torch.tensor([3, 17, 4]))
    assert torch.equal(table[20:], before[20:])
    row_adam_.catch_up()
    assert torch.allclose(table, dense, rtol=0, atol=1e-12)
    assert not torch.allclose(table[20:], before[20:])
    row_adam_.catch_up()
    assert torch.allclose(table, dense, rtol=0, atol=1e-12)


def test_rows_touched_now_and_then_follow_adamw_with_decay() -> None:
    dense, adamw, table, row_adam_ = decayed(400, 0.5)
    plain = decayed(400, 0.0)
    for _ in range(300):
        step_both(dense, adamw, table, row_adam_, torch.randperm(400)[:20])
    row_adam_.catch_up()
    assert (dense - table).abs().mean() < 0.003  # a third of a step; a row moves by 0.3 in all
    for _ in range(300):
        step_both(*plain, torch.randperm(400)[:20])
    assert (dense - plain[2]).abs().mean() > 0.1


def test_a_state_of_before_there_was_decay_goes_on() -> None:
    _, _, table, optimizer = decayed(40, 0.0)
    table.grad = sparse(torch.randn_like(table), torch.tensor([1, 2]))
    optimizer.step()
    state = deepcopy(optimizer.state_dict())
    for name in ("decay", "row_decay"):
        del state["state"][0][name]
    copy = nn.Parameter(table.detach().clone())
    resumed = RowAdam([copy])
    resumed.load_state_dict(state)
    gradient = torch.randn_like(table)
    for parameter, which in ((table, optimizer), (copy, resumed)):
        parameter.grad = sparse(gradient, torch.tensor([2, 30]))
        which.step()
    assert torch.equal(table, copy)
