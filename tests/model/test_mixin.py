"""What the mixin makes of a RecBole recommender."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_sce.loss import CrossEntropyLoss, SampledCrossEntropyLoss, ScalableCrossEntropyLoss


def batches(loader: Any) -> list[Any]:
    return list(loader)


class TestPositions:
    def test_every_position_is_what_recbole_computes_for_that_prefix(self, prepared: Any) -> None:
        run = prepared("SASRecSCE")
        model, batch = run.model.eval(), next(iter(run.train))
        hidden = model.encode_positions(batch)  # (B, L, d)
        item_seq, lengths = batch[model.ITEM_SEQ], batch[model.ITEM_SEQ_LEN]
        for length in range(1, int(lengths.max()) + 1):
            rows = lengths >= length
            prefix = item_seq[rows].clone()
            prefix[:, length:] = 0
            expected = model.forward(prefix, torch.full((int(rows.sum()),), length))
            torch.testing.assert_close(hidden[rows, length - 1], expected, rtol=1e-5, atol=1e-6)

    def test_the_future_changes_nothing_in_the_past(self, prepared: Any) -> None:
        run = prepared("SASRecSCE")
        model, batch = run.model.eval(), next(iter(run.train))
        before = model.encode_positions(batch)
        batch[model.ITEM_SEQ][:, 5:] = 1
        after = model.encode_positions(batch)
        assert torch.equal(before[:, :5], after[:, :5])
        assert not torch.equal(before[:, 5:], after[:, 5:])

    def test_only_real_positions_train(self, prepared: Any) -> None:
        run = prepared("SASRecSCE")
        for batch in run.train:
            hidden, targets, rows = run.model.training_states(batch)
            lengths = batch[run.model.ITEM_SEQ_LEN]
            assert len(hidden) == len(targets) == int(lengths.sum())
            assert (targets > 0).all()
            assert torch.equal(rows, torch.arange(len(lengths)).repeat_interleave(lengths))

    def test_last_trains_the_last_position_of_each_row(self, prepared: Any) -> None:
        run = prepared("SASRecSCE", train_positions="last")
        batch = next(iter(run.train))
        hidden, targets, rows = run.model.eval().training_states(batch)
        assert torch.equal(targets, batch["item_id"])
        assert torch.equal(rows, torch.arange(len(targets)))
        expected = run.model.forward(batch["item_id_list"], batch["item_length"])
        assert torch.equal(hidden, expected)

    def test_both_ways_train_the_same_targets(self, prepared: Any) -> None:
        counts = {}
        for positions in ("all", "last"):
            run = prepared("SASRecSCE", train_positions=positions)
            targets = torch.cat([run.model.training_states(batch)[1] for batch in run.train])
            counts[positions] = torch.bincount(targets, minlength=run.model.n_items)
        assert torch.equal(counts["all"], counts["last"])


@pytest.mark.parametrize("positions", ["all", "last"])
def test_leave_one_out_stays_sealed(prepared: Any, tmp_path: Path, positions: str) -> None:
    """What training sees of a user is that user's log without its last two interactions, no more."""
    run = prepared("SASRecSCE", train_positions=positions)
    logs = defaultdict(list)
    for line in (tmp_path / "data" / "tiny" / "tiny.inter").read_text().splitlines()[1:]:
        user, item, _, time = line.split("\t")
        logs[user].append((float(time), item))
    dataset = run.train._dataset
    shown: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for batch in run.train:
        for row in range(len(batch)):
            length = int(batch["item_length"][row])
            items = [*batch["item_id_list"][row, :length].tolist(), int(batch["item_id"][row])]
            shown[dataset.id2token("user_id", batch["user_id"][row].item())].add(
                tuple(dataset.id2token("item_id", items))
            )
            if positions == "all":
                targets = batch[run.model.TARGET_SEQ][row]
                assert targets[:length].tolist() == items[1:]
                assert not targets[length:].any()
    assert set(shown) == set(logs)
    for user, log in logs.items():
        training = [item for _, item in sorted(log)][:-2]
        for run_of_items in shown[user]:
            width = len(run_of_items)
            starts = range(len(training) - width + 1)
            assert any(tuple(training[s : s + width]) == run_of_items for s in starts), (user, run_of_items)


class TestLoss:
    def test_exact_loss_is_the_bases_without_the_padding_item(self, prepared: Any) -> None:
        """RecBole's softmax counts item 0; ours does not: base = ours + log(1 + e^(l_0 - lse(others)))."""
        base = prepared("SASRec")
        ours = prepared("SASRecSCE", loss_type="CE", train_positions="last")
        base.model.double().eval(), ours.model.double().eval()
        ours.model.load_state_dict(base.model.state_dict())
        batch = next(iter(base.valid))[0]
        hidden = base.model.forward(batch["item_id_list"], batch["item_length"])
        logits = hidden @ base.model.item_embedding.weight.T
        padding_term = torch.nn.functional.softplus(logits[:, 0] - logits[:, 1:].logsumexp(1)).mean()
        assert padding_term > 1e-3
        torch.testing.assert_close(
            base.model.calculate_loss(batch),
            ours.model.calculate_loss(batch) + padding_term,
            rtol=1e-6,
            atol=0,
        )

    @pytest.mark.parametrize(
        "settings",
        [
            {"n_buckets": 1, "bucket_size_x": 10_000, "bucket_size_y": 10_000, "complete_softmax": False},
            {"n_outside": 10_000},  # more than there are items
        ],
    )
    def test_buckets_that_cover_everything_give_the_exact_loss(
        self, prepared: Any, settings: dict[str, Any]
    ) -> None:
        sce = prepared("SASRecSCE", target_discount=0.0, **settings)
        exact = prepared("SASRecSCE", target_discount=0.0, loss_type="CE")
        sce.model.double().eval(), exact.model.double().eval()
        batch = next(iter(exact.train))
        torch.testing.assert_close(
            sce.model.calculate_loss(batch), exact.model.calculate_loss(batch), check_dtype=False
        )
        assert not sce.model.loss_fct.last_stats.estimated

    @pytest.mark.parametrize("model", ["SASRecSCE", "GRU4RecSCE"])
    @pytest.mark.parametrize("loss_type", ["SCE", "CE"])
    def test_later_items_of_a_row_are_targets(self, prepared: Any, model: str, loss_type: str) -> None:
        losses = []
        for discount in (0.0, 0.5):
            run = prepared(model, loss_type=loss_type, target_discount=discount)
            run.model.double().eval()
            batch = next(iter(run.train))
            torch.manual_seed(0)  # of the buckets
            losses.append(run.model.calculate_loss(batch))
        rows, places, items = batch[run.model.TARGET_SEQ], [], run.model.item_table()
        hidden = run.model.encode_positions(batch)
        for state, row in zip(hidden, rows.tolist()):
            later = [item for item in row if item]
            for place, own in enumerate(later):  # short histories: a row's targets begin at its first place
                logits = items[later[place:]] @ state[place]
                weights = torch.tensor([0.5**k for k in range(len(logits))], dtype=torch.float64)
                places.append(items[own] @ state[place] - (weights / weights.sum()) @ logits)
        torch.testing.assert_close(losses[1] - losses[0], torch.stack(places).mean())

    def test_later_items_are_no_targets_of_a_loss_that_does_not_say_so(self, prepared: Any) -> None:
        run = prepared("SASRecSCE", target_discount=0.5)
        run.model.loss_fct = SampledCrossEntropyLoss()
        with pytest.raises(
            ValueError, match=r"target_discount must be 0.0 with this SampledCross.*, got 0.5"
        ):
            run.model.calculate_loss(next(iter(run.train)))

    @pytest.mark.parametrize("loss_type", ["SCE", "CE", "CE-", "gBCE", "BCE"])
    def test_every_loss_type_trains_table_and_encoder(self, prepared: Any, loss_type: str) -> None:
        run = prepared("SASRecSCE", loss_type=loss_type)
        run.model.calculate_loss(next(iter(run.train))).backward()
        assert run.model.item_embedding.weight.grad[1:].abs().sum() > 0
        assert run.model.trm_encoder.layer[0].feed_forward.dense_1.weight.grad.abs().sum() > 0
        assert not run.model.item_embedding.weight.grad[0].any()

    def test_settings_reach_the_loss(self, prepared: Any) -> None:
        run = prepared(
            "SASRecSCE",
            n_buckets=3,
            bucket_size_x=5,
            bucket_size_y=7,
            bucket_alpha=4.0,
            mix_x=False,
            target_discount=0.0,
        )
        loss = run.model.loss_fct
        assert isinstance(loss, ScalableCrossEntropyLoss)
        run.model.calculate_loss(next(iter(run.train)))
        stats = loss.last_stats
        assert (stats.n_buckets, stats.bucket_size_x, stats.bucket_size_y) == (3, 5, 7)

    @pytest.mark.parametrize("complete", [True, False])
    def test_a_completed_softmax_is_the_default(self, prepared: Any, complete: bool) -> None:
        run = prepared(
            "SASRecSCE",
            **({} if complete else {"complete_softmax": False}),
            bucket_size_y=5,
            n_outside=30,
            target_discount=0.0,
        )
        states, targets, _ = run.model.training_states(next(iter(run.train)))
        loss, exact = run.model.loss_fct, CrossEntropyLoss()(states, run.model.item_table(), targets)
        # At initialisation all logits are small: the softmax over a catalogue is that many times as wide.
        assert (float(loss(states, run.model.item_table(), targets)) > 0.99 * float(exact)) is complete


class TestRecBolesContracts:
    def test_scores_are_the_bases(self, prepared: Any) -> None:
        base, ours = prepared("SASRec"), prepared("SASRecSCE")
        ours.model.load_state_dict(base.model.state_dict())
        base.model.eval(), ours.model.eval()
        batch = next(iter(base.test))[0]
        assert_close = torch.testing.assert_close  # fused kernels round otherwise
        assert_close(ours.model.full_sort_predict(batch), base.model.full_sort_predict(batch))
        assert_close(ours.model.predict(batch), base.model.predict(batch))
        states = base.model.forward(batch["item_id_list"], batch["item_length"])
        assert_close(ours.model.encode(batch), states)

    def test_the_configuration_keeps_what_the_user_said(self, prepared: Any) -> None:
        assert prepared("SASRecSCE", loss_type="SCE").config["loss_type"] == "SCE"
