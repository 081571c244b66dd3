from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from test_scalable import assert_agree, make, random_buckets

from recbole_sce.loss import Buckets, Histories, ItemSample, ScalableCrossEntropyLoss, sample_items
from recbole_sce.loss import scalable_cross_entropy as loss_of
from recbole_sce.loss.ops import memory
from recbole_sce.loss.sce import outside
from recbole_sce.loss.sce.fused import bucket_loss


def test_the_items_of_a_state_s_own_history_are_scored_and_no_others() -> None:
    hidden, items, _ = make(3, 50, 8)
    targets = torch.tensor([10, 11, 12])
    buckets = Buckets(torch.tensor([[0, 2]]), torch.tensor([[20, 21]]))
    sample = ItemSample(torch.tensor([20, 30, 40]), 49, 50)
    histories = Histories(torch.tensor([[11, 41, -1, -1], [21, 30, 31, 12]]), torch.tensor([0, 0, 1]))
    losses = []
    for state, sums, sampled, unseen in (
        (0, [10, 20, 21, 11, 41], [30, 40], 49 - 5),
        (1, [11, 41], [20, 30, 40], 49 - 2),  # in no bucket
        (2, [12, 20, 21, 30, 31], [40], 49 - 5),
    ):
        logits = items @ hidden[state]
        rest = logits[sampled] + math.log(unseen / len(sampled))
        losses.append(torch.cat([logits[sums], rest]).logsumexp(0) - logits[targets[state]])
    actual = loss_of(hidden, items, targets, buckets, sample, histories)
    assert_agree(actual, torch.stack(losses).mean(), (hidden, items), 1e-10)


def test_order_repetitions_and_own_targets_in_a_history_change_nothing() -> None:
    hidden, items, targets = make(12, 60, 6)
    buckets, sample, owner = random_buckets(12, 60, 3, 5, 7), sample_items(60, 20), torch.arange(12) // 4
    once = torch.tensor([[3, 5, 8, -1, -1], [9, 1, -1, -1, -1], [2, -1, -1, -1, -1]])
    again = torch.tensor([[8, 5, 3, 8, 5], [1, 1, 9, 9, -1], [-1, 2, 2, 2, 2]])
    first = loss_of(hidden, items, targets, buckets, sample, Histories(once, owner))
    second = loss_of(hidden, items, targets, buckets, sample, Histories(again, owner))
    assert_agree(first, second, (hidden, items), 1e-12)
    rows = torch.arange(12)
    alone = loss_of(hidden, items, targets, buckets, sample, Histories(targets[:, None], rows))
    assert_agree(alone, loss_of(hidden, items, targets, buckets, sample), (hidden, items), 1e-12)


def test_histories_of_the_whole_catalogue_are_exact() -> None:
    hidden, items, targets = make(30, 50, 8)
    everything = Histories(torch.arange(50).expand(2, 50), torch.arange(30) // 20)
    loss_fn = ScalableCrossEntropyLoss(n_buckets=3, bucket_size_y=4, complete_softmax=True, n_outside=5)
    actual = loss_fn(hidden, items, targets, histories=everything)  # row 0 is padding
    expected = torch.nn.functional.cross_entropy(hidden @ items[1:].T, targets - 1)
    assert_agree(actual, expected, (hidden, items), 1e-10)


def test_excluded_rows_in_histories_count_for_nothing() -> None:
    hidden, items, targets = make(30, 90, 8)
    targets[targets == 7] = 8
    owner = torch.arange(30) // 3
    with_padding = torch.randint(0, 90, (10, 12), generator=torch.Generator().manual_seed(0))
    with_padding[:, 6:] = torch.tensor([0, 7]).repeat(3)
    without = with_padding.masked_fill((with_padding == 0) | (with_padding == 7), -1)
    loss_fn = ScalableCrossEntropyLoss(
        n_buckets=3, bucket_size_y=4, complete_softmax=True, n_outside=9, exclude_items=(0, 7)
    )
    losses = [
        loss_fn(hidden, items, targets, torch.Generator().manual_seed(0), Histories(own, owner))
        for own in (with_padding, without)
    ]
    assert_agree(*losses, (hidden, items), 1e-12)
    buckets, sample = random_buckets(30, 90, 3, 5, 7), sample_items(90, 20, (0, 7))
    losses = [
        loss_of(hidden, items, targets, buckets, sample, Histories(own, owner))
        for own in (with_padding, without)
    ]
    assert_agree(*losses, (hidden, items), 1e-12)


@pytest.mark.parametrize(
    "lengths", [[1000], [1000, *[1] * 1000], [*[1] * 1000, 1000], [1] * 1000, [3, 40] * 23]
)
def test_tiles_are_as_large_as_a_workspace_whatever_the_lengths(
    monkeypatch: pytest.MonkeyPatch, lengths: list[int]
) -> None:
    n, of_state = sum(lengths), 200 + 1 + 3 * 5 + 3 * 4  # numbers: a sample, a history, a state
    of_piece = 5 * 4 + 1 * (5 + 4)  # with one state
    monkeypatch.setattr(memory, "_CPU_WORKSPACE", 8 * 200 * (of_state + of_piece))
    tiles, tile_of = [], outside.Outside._tile

    def recording(self: outside.Outside, *arguments: Any) -> Any:
        tile = tile_of(self, *arguments)
        tiles.append((tile.part, tile.padded(tile.states).numel()))
        return tile

    monkeypatch.setattr(outside.Outside, "_tile", recording)
    hidden, items, targets = make(n, 600, 4)
    owner = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    histories = Histories(torch.randint(1, 600, (len(lengths), 5)), owner)
    loss_of(hidden, items, targets, random_buckets(n, 600, 3, 5, 7), sample_items(600, 200), histories)
    parts = [part for part, _ in tiles]
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == n
    assert max(part.stop - part.start for part in parts) <= 200 + 64  # up to a piece more
    assert len(parts) <= 2 + n // 100
    assert max(numbers for _, numbers in tiles) * 8 <= memory._CPU_WORKSPACE


def test_a_sparse_gradient_names_no_items_of_a_history_without_a_state() -> None:
    hidden, items, targets = make(6, 90, 4)
    histories = Histories(torch.arange(60, 72).view(4, 3), torch.tensor([0, 0, 2, 2, 2, 3]))
    buckets, sample = random_buckets(6, 50, 3, 2, 7), ItemSample(torch.tensor([50, 51]), 89, 90, (0,))
    loss, _ = bucket_loss(hidden, items, targets, buckets, True, sample, histories)
    (gradient,) = torch.autograd.grad(loss, items)
    named = gradient.indices()[0].tolist()
    assert {60, 61, 62, 66, 67, 68, 69, 70, 71} <= set(named)
    assert not {63, 64, 65} & (set(named) - set(targets.tolist()))


@pytest.mark.parametrize(
    "loss_fn", [ScalableCrossEntropyLoss(complete_softmax=False), ScalableCrossEntropyLoss(n_outside=89)]
)
def test_the_loss_of_the_paper_and_the_exact_one_do_not_use_them(loss_fn: ScalableCrossEntropyLoss) -> None:
    hidden, items, targets = make(30, 90, 8)
    histories = Histories(torch.randint(1, 90, (30, 5)), torch.arange(30))
    generator = torch.Generator()
    assert loss_fn.needs_histories is loss_fn.complete_softmax
    with_them = loss_fn(hidden, items, targets, generator.manual_seed(0), histories)
    assert torch.equal(with_them, loss_fn(hidden, items, targets, generator.manual_seed(0)))


def test_a_history_that_has_no_state_changes_nothing() -> None:
    hidden, items, targets = make(6, 40, 4)
    buckets, sample = random_buckets(6, 40, 3, 2, 7), sample_items(40, 9)
    own = torch.randint(1, 40, (5, 3), generator=torch.Generator().manual_seed(0))
    owner = torch.tensor([0, 0, 2, 2, 2, 3])
    some = loss_of(hidden, items, targets, buckets, sample, Histories(own, owner))
    others = loss_of(
        hidden, items, targets, buckets, sample, Histories(own[[0, 2, 3]], torch.tensor([0, 0, 1, 1, 1, 2]))
    )
    assert_agree(some, others, (hidden, items), 1e-12)


def test_no_states_have_no_history() -> None:
    hidden, items, targets = make(0, 9, 4)
    buckets = Buckets(torch.empty(2, 0, dtype=torch.int64), torch.tensor([[1, 2], [3, 4]]))
    for own in (torch.empty(0, 3, dtype=torch.int64), torch.tensor([[1, -1]])):
        loss = loss_of(hidden, items, targets, buckets, sample_items(9, 3), Histories(own, targets))
        assert float(loss) == 0
        loss.backward()


ROWS = torch.arange(6)


@pytest.mark.parametrize(
    ("items", "owner", "message"),
    [
        (ROWS, ROWS, r"histories.items must have two dimensions .*got shape \(6,\) of torch.int64"),
        (torch.ones(6, 2), ROWS, r"histories.items must have .*got shape \(6, 2\) of torch.float32"),
        (torch.ones(6, 2).long(), ROWS[:5], r"histories.owner must be .*got shape \(5,\) of torch.int64"),
        (torch.ones(6, 2).long(), ROWS.int(), r"histories.owner must be .*got shape \(6,\) of torch.int32"),
        (torch.full((6, 2), 40), ROWS, "histories.items must be from 0 to 39.*got 40"),
        (torch.full((6, 2), -2), ROWS, "histories.items must be .*got -2"),
        (torch.ones(5, 2).long(), ROWS, "histories.owner must ascend from 0 to 4"),
        (torch.ones(6, 2).long(), ROWS - 1, "histories.owner must ascend from 0 to 5"),
        (torch.ones(6, 2).long(), ROWS.flip(0), "histories.owner must ascend"),
        (torch.ones(0, 2).long(), ROWS * 0, "histories.owner must ascend"),
        (
            torch.ones(6, 2, device="meta").long(),
            ROWS,
            "histories must be on cpu, the device of hidden, got items on meta",
        ),
    ],
)
def test_what_are_no_histories_is_refused(items: torch.Tensor, owner: torch.Tensor, message: str) -> None:
    hidden, table, targets = make(6, 40, 4)
    with pytest.raises(ValueError, match=message):
        loss_of(
            hidden,
            table,
            targets,
            random_buckets(6, 40, 3, 2, 7),
            sample_items(40, 9),
            Histories(items, owner),
        )
    loss_fn = ScalableCrossEntropyLoss(2, bucket_size_y=3, complete_softmax=True, n_outside=5)
    with pytest.raises(ValueError, match=message):
        loss_fn(hidden, table, targets, histories=Histories(items, owner))


def test_histories_without_a_sample_are_refused() -> None:
    hidden, items, targets = make(6, 40, 4)
    with pytest.raises(ValueError, match="histories must be None without a sample"):
        loss_of(
            hidden,
            items,
            targets,
            random_buckets(6, 40, 3, 2, 7),
            histories=Histories(targets[:, None], ROWS),
        )
