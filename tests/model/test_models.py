"""Every model against the model of RecBole that it extends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import BERT4Rec
from torch import Tensor
from torch.nn import functional as F

from recbole_sce.data.dataset import IndexedSequenceDataset
from recbole_sce.loss import Histories, ScalableCrossEntropyLoss
from recbole_sce.model import MODELS, SettingsError
from recbole_sce.model.losses import build_loss
from recbole_sce.settings import LOSS_TYPES, SCESettings

BASES = sorted(cls.__name__[: -len("SCE")] for cls in MODELS)
CAUSAL = sorted(cls.__name__ for cls in MODELS if cls.causal)
NOT_CAUSAL = sorted(cls.__name__ for cls in MODELS if cls.trains() == "last")
every_model = pytest.mark.parametrize("base", BASES)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Check to 1e-6 relative; to 1e-5 where RecBole's encoder computes in float32 only."""
    rtol = 1e-5 if expected.dtype == torch.float32 else 1e-6
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol, check_dtype=False)


def turned_around(batch: Interaction) -> Interaction:
    """Return the batch with padding in front of its sequences, as SHAN trains."""
    batch["item_id_list"] = batch["Inverse_item_id_list"]
    return batch


@torch.no_grad()
@every_model
def test_scores_are_the_bases_and_products_of_states_and_table(zoo: Any, base: str) -> None:
    theirs, ours = zoo.twins(base)
    batch = zoo.batch(base, "test")
    scores = ours.full_sort_predict(batch)
    assert scores.shape == (len(batch), zoo.data(base).dataset.item_num)
    close(ours.encode(batch) @ ours.item_table().T, scores)
    items = scores.gather(1, batch["item_id"].unsqueeze(1)).squeeze(1)
    close(ours.predict(batch), items)
    if base != "CORE":  # RecBole's does not normalise the item there
        close(theirs.predict(batch), items)
    close(theirs.full_sort_predict(turned_around(batch) if base == "SHAN" else batch), scores)


@torch.no_grad()
@every_model
def test_exact_loss_is_the_bases_without_the_padding_item(zoo: Any, base: str) -> None:
    """RecBole's softmax has rows that are no items; ours does not.

    base = ours + mean of log(1 + exp(logsumexp(logits of those rows) - logsumexp(logits of items))). The
    rows are item 0, and for S3-Rec the mask token. Extra losses are in both, with weights that matter.
    """
    theirs, ours = zoo.twins(base)
    batch = zoo.batch(base)
    hidden, targets, _ = ours.training_states(batch)
    assert len(targets) > 10
    logits = hidden @ ours.item_table().T
    no_items = logits[:, :1]
    if base == "S3Rec":
        no_items = torch.cat((no_items, hidden @ ours.item_embedding.weight[-1:].T), 1)
    excess = F.softplus(no_items.logsumexp(1) - logits[:, 1:].logsumexp(1)).mean()
    assert excess > 1e-4
    close(ours.calculate_loss(batch) + excess, theirs.calculate_loss(batch).squeeze())


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "positions"), [*((f"{base}SCE", "last") for base in BASES), *((name, "all") for name in CAUSAL)]
)
def test_the_loss_is_given_the_items_of_each_state_s_row(
    zoo: Any, name: str, positions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, seen = zoo.model(name, train_positions=positions, target_discount=0.0), []
    batch = zoo.batch(name, train_positions=positions)
    ours.loss_fct = ScalableCrossEntropyLoss(n_buckets=4, bucket_size_y=3, complete_softmax=True, n_outside=5)
    forward = ours.loss_fct.forward

    def recording(hidden: Tensor, table: Tensor, targets: Tensor, histories: Histories) -> Tensor:
        seen.append((targets, histories))
        return forward(hidden, table, targets, histories=histories)

    monkeypatch.setattr(ours.loss_fct, "forward", recording)
    ours.calculate_loss(batch)
    [(targets, histories)] = seen
    expected = torch.cat([batch["item_id_list"], batch["item_id"].unsqueeze(1)], 1)
    assert torch.equal(histories.items, expected)
    assert (histories.items[histories.owner] == targets.unsqueeze(1)).any(1).all()
    assert (expected[:, :-1] > 0).sum() > 2 * len(expected)  # these are histories of some length


@torch.no_grad()
@pytest.mark.parametrize("base", ["Caser", "FOSSIL", "GCSAN", "HGN", "NextItNet", "SHAN"])
def test_extra_losses_weigh_something_in_these_tests(zoo: Any, base: str) -> None:
    _, ours = zoo.twins(base)
    batch = zoo.batch(base)
    assert ours.extra_loss(batch, ours.training_states(batch)[0]) > 1e-3


@torch.no_grad()
@every_model
def test_buckets_that_cover_everything_give_the_exact_loss(zoo: Any, base: str) -> None:
    _, ours = zoo.twins(base)
    batch = zoo.batch(base)
    exact = ours.calculate_loss(batch)
    ours.loss_fct = build_loss(
        SCESettings(n_buckets=1, bucket_size_x=10_000, bucket_size_y=10_000, n_outside=3), ours.n_items
    )
    close(ours.calculate_loss(batch), exact)
    assert ours.loss_fct.last_stats.bucket_coverage == 1.0


#: Parameters that RecBole's encoders do not use (NPE), that a softmax cancels (CORE), or of pre-training.
UNTRAINED = {
    "CORE": ("net.fn.bias",),
    "FDSA": ("feature_att_layer.projection.2.bias",),
    "NPE": ("embedding_seq_item.weight",),
    "S3Rec": (
        "feature_embedding.weight",
        *(f"{task}_norm.{kind}" for task in ("aap", "mip", "map", "sp") for kind in ("weight", "bias")),
    ),
}


@every_model
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_every_loss_trains_encoder_and_items(zoo: Any, base: str, loss_type: str) -> None:
    model = zoo.model(f"{base}SCE", loss_type=loss_type, n_negatives=5)
    loss = model.train().calculate_loss(zoo.batch(f"{base}SCE"))
    assert loss.dim() == 0
    assert torch.isfinite(loss)
    loss.backward()
    trained = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    assert any(name.startswith("item_embedding") for name in trained)
    assert len(trained) > 1
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} - trained <= set(
        UNTRAINED.get(base, ())
    )


class TestPositions:
    @torch.no_grad()
    @pytest.mark.parametrize("name", CAUSAL)
    def test_every_position_is_the_state_of_that_prefix(self, zoo: Any, name: str) -> None:
        model, batch = zoo.model(name).double().eval(), zoo.batch(name)
        hidden = model.encode_positions(batch)  # (B, L, d)
        items, lengths = batch["item_id_list"], batch["item_length"]
        for length in range(1, int(lengths.max()) + 1):
            rows = lengths >= length
            prefix = {
                "item_id_list": items[rows].clone(),
                "item_length": torch.full_like(lengths[rows], length),
            }
            prefix["item_id_list"][:, length:] = 0
            close(hidden[rows, length - 1], model.encode(Interaction(prefix)))

    @torch.no_grad()
    @pytest.mark.parametrize("name", CAUSAL)
    def test_the_future_changes_nothing_in_the_past(self, zoo: Any, name: str) -> None:
        model, batch = zoo.model(name).eval(), zoo.batch(name)
        before = model.encode_positions(batch)
        changed = Interaction({**batch.interaction, "item_id_list": batch["item_id_list"].clone()})
        changed["item_id_list"][:, 5:] = 1
        after = model.encode_positions(changed)
        torch.testing.assert_close(before[:, :5], after[:, :5])
        assert (before[:, 5] - after[:, 5]).abs().max() > 1e-3

    @pytest.mark.parametrize("name", CAUSAL)
    def test_all_is_the_default_and_trains_every_target_once(self, zoo: Any, name: str) -> None:
        model, batch = zoo.model(name), zoo.batch(name)
        assert model.settings.train_positions == "all"
        hidden, targets, _ = model.training_states(batch)
        assert len(hidden) == len(targets) == int((batch["target_item_id_list"] > 0).sum()) > len(batch)

    @pytest.mark.parametrize("name", NOT_CAUSAL)
    def test_a_model_that_is_not_causal_refuses_all(self, name: str) -> None:
        with pytest.raises(SettingsError, match=r"train_positions must be last with .*, got 'all'"):
            Config(name, "tiny", config_dict={"train_positions": "all"})

    @torch.no_grad()
    def test_nextitnet_reads_the_last_item_or_as_recbole_the_last_column(self, zoo: Any) -> None:
        batch = zoo.batch("NextItNet", "test")
        batch["item_id_list"][:, 4:] = 0
        batch["item_length"][:] = 4
        by_position = zoo.model("NextItNetSCE").eval()
        by_column = zoo.model("NextItNetSCE", train_positions="last").eval()
        torch.testing.assert_close(by_column.encode(batch), by_column.forward(batch["item_id_list"]))
        states = by_position.encode_positions(batch)
        torch.testing.assert_close(by_position.encode(batch), states[:, 3])
        torch.testing.assert_close(by_column.encode(batch), states[:, -1])
        assert not torch.allclose(states[:, 3], states[:, -1])


class TestBERT4Rec:
    def test_whole_sequences_are_histories_with_what_follows(self, zoo: Any) -> None:
        model, batch = zoo.model("BERT4RecSCE"), zoo.batch("BERT4RecSCE")
        longest = batch["item_id_list"].size(1)
        for items, row in zip(model._whole_sequences(batch), range(len(batch))):
            history = batch["item_id_list"][row, : batch["item_length"][row]].tolist()
            whole = [*history, int(batch["item_id"][row])][-longest:]
            assert items.tolist() == whole + [0] * (longest - len(whole))

    @pytest.mark.parametrize(("mask_ratio", "ft_ratio"), [(1.0, 0.0), (0.5, 0.0), (0.5, 1.0)])
    def test_what_a_window_trains_is_masked(self, zoo: Any, mask_ratio: float, ft_ratio: float) -> None:
        model, batch = zoo.model("BERT4RecSCE"), zoo.batch("BERT4RecSCE")
        model.mask_ratio, model.ft_ratio = mask_ratio, ft_ratio
        seen = []
        model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        _, targets, rows = model.training_states(batch)
        [masked] = seen
        whole, is_masked = model._whole_sequences(batch), masked == model.mask_token
        assert torch.equal(masked[~is_masked], whole[~is_masked])
        assert torch.equal(targets, whole[is_masked])
        assert torch.equal(rows, is_masked.nonzero()[:, 0])
        n_targets = (batch[model.TARGET_SEQ] > 0).sum(1)
        trained = n_targets + (n_targets == batch["item_length"]) * (n_targets < 10)  # the first item, too
        if ft_ratio:
            assert torch.equal(is_masked.sum(1), torch.ones_like(n_targets))
            assert torch.equal(targets, batch["item_id"])
        elif mask_ratio == 1:
            assert torch.equal(is_masked.sum(1), trained)
        else:
            assert 0.3 * trained.sum() < is_masked.sum() < 0.7 * trained.sum()

    def test_prefixes_need_recboles_masks(self, zoo: Any) -> None:
        with pytest.raises(SettingsError, match="transform must be mask_itemseq with train_positions last"):
            zoo.config("BERT4RecSCE", train_positions="last", transform=None)
        with pytest.raises(SettingsError, match="train_positions must be last with transform mask_itemseq"):
            zoo.config("BERT4RecSCE", train_positions="all", transform="mask_itemseq")

    def test_masks_of_recbole_train_what_they_hide(self, zoo: Any) -> None:
        model = zoo.model("BERT4RecSCE", train_positions="last")
        batch = zoo.batch("BERT4RecSCE", train_positions="last")
        hidden, targets, _ = model.training_states(batch)
        masked = batch["Mask_item_id_list"] == model.mask_token
        hidden_items = batch["item_id_list"][:, 1:][masked[:, 1:]]
        assert set(targets.tolist()) <= set(hidden_items.tolist())
        # RecBole has room for mask_ratio * MAX_ITEM_LIST_LENGTH masks a row, and keeps the last ones.
        kept = (
            torch.minimum(masked.sum(1), torch.tensor(2)).sum()
            - (batch["MASK_INDEX"] == 0).logical_and(batch["Pos_item_id"] > 0).sum()
        )
        assert len(hidden) == len(targets) == int(kept)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
    def test_the_mask_behind_histories_is_recboles(self, zoo: Any, dtype: torch.dtype) -> None:
        model = zoo.model("BERT4RecSCE")
        items, lengths = torch.randint(1, 20, (50, 7)), torch.randint(1, 8, (50,))
        items[torch.arange(7) >= lengths.unsqueeze(1)] = 0
        before = items.clone()
        expected = BERT4Rec.reconstruct_test_data(model, items, lengths)
        assert torch.equal(model.reconstruct_test_data(items, lengths.to(dtype)), expected)
        assert torch.equal(items, before)

    def test_a_batch_without_masks_has_loss_zero(self, zoo: Any) -> None:
        model, batch = zoo.model("BERT4RecSCE"), zoo.batch("BERT4RecSCE")
        model.mask_ratio = model.ft_ratio = 0.0
        loss = model.calculate_loss(batch)
        loss.backward()
        assert loss == 0

    @torch.no_grad()
    def test_buckets_are_filled_by_score_with_bias(self, zoo: Any) -> None:
        _, ours = zoo.twins("BERT4Rec")
        ours.output_bias[7] = 100.0
        ours.loss_fct = build_loss(
            SCESettings(n_buckets=50, bucket_size_x=10_000, bucket_size_y=1, complete_softmax=False),
            ours.n_items,
        )
        hidden, targets, _ = ours.training_states(zoo.batch("BERT4Rec"))
        others = targets != 7
        loss = ours.loss_fct(hidden[others], ours.item_table(), targets[others])
        assert loss > 90  # item 7 is on top of every second bucket, and every state is in all of them


class TestFEARec:
    def test_rows_of_the_same_target_are_recboles(self, zoo: Any) -> None:
        model = zoo.model("FEARecSCE")
        theirs = type(model).__mro__[2].get_same_item_index(model, model.dataset)
        ours = model.get_same_item_index(model.dataset)
        assert {item: rows.tolist() for item, rows in ours.items()} == {
            int(item): rows.tolist() for item, rows in theirs.items()
        }

    def test_a_drawn_row_has_the_same_target_and_another_history(self, zoo: Any) -> None:
        model, batch = zoo.model("FEARecSCE"), zoo.batch("FEARecSCE")
        counts = {item: len(rows) for item, rows in model.same_item_index.items()}
        seen = set()
        for _ in range(5):
            drawn = model._rows_of_same_target(batch)
            assert torch.equal(drawn["item_id"], batch["item_id"])
            differs = (drawn["item_id_list"] != batch["item_id_list"]).any(1)
            alone = torch.tensor([counts[item] == 1 for item in batch["item_id"].tolist()])
            assert (differs | alone).all()
            seen.add(tuple(drawn["user_id"].tolist()))
        assert len(seen) == 5

    def test_an_only_row_is_drawn_itself(self, zoo: Any) -> None:
        model, batch = zoo.model("FEARecSCE"), zoo.batch("FEARecSCE")
        item = int(batch["item_id"][0])
        row = next(
            row
            for row in model.same_item_index[item]
            if torch.equal(model.dataset[[row]]["item_id_list"][0], batch["item_id_list"][0])
        )
        model.same_item_index = {**model.same_item_index, item: model.same_item_index[item][:0]}
        model.same_item_index[item] = torch.tensor([row]).numpy()
        assert torch.equal(model._rows_of_same_target(batch)["item_id_list"][0], batch["item_id_list"][0])

    @torch.no_grad()
    @pytest.mark.parametrize(
        ("contrast", "fredom_type"),
        [(contrast, None) for contrast in ("un", "su", "us", "us_x")]
        + [("us_x", fredom_type) for fredom_type in ("un", "su", "us", "us_x")],
    )
    def test_contrastive_terms_are_recboles(self, zoo: Any, contrast: str, fredom_type: Any) -> None:
        """In evaluation mode only the drawn rows are random: both models are given the same ones."""
        settings = {"contrast": contrast, "tau": 0.5, "sim": "cos", "lmd": 0.3, "lmd_sem": 0.2}
        settings.update(fredom=fredom_type is not None, fredom_type=fredom_type)
        theirs, ours = zoo.model("FEARec", **settings), zoo.twins("FEARec", **settings)[1]
        theirs.eval().load_state_dict(ours.state_dict())
        batch = zoo.batch("FEARec")
        only = {int(item): rows[-1:] for item, rows in ours.same_item_index.items()}
        ours.same_item_index, theirs.same_item_index = only, only
        hidden, _, _ = ours.training_states(batch)
        logits = hidden @ ours.item_table().T
        excess = F.softplus(logits[:, 0] - logits[:, 1:].logsumexp(1)).mean()
        close(ours.calculate_loss(batch) + excess, theirs.calculate_loss(batch))
        assert ours.extra_loss(batch, hidden) > 1e-3

    @pytest.mark.parametrize(("key", "value"), [("tau", 0.0), ("sim", "euclid")])
    def test_impossible_settings_of_the_contrast_are_named(self, key: str, value: Any) -> None:
        with pytest.raises(SettingsError, match=f"{key} must be .* with contrast, got {value!r}"):
            Config("FEARecSCE", "tiny", config_dict={"contrast": "us", key: value})


class TestKnowledgeGraphs:
    @pytest.mark.parametrize(
        ("name", "key"), [("GRU4RecKGSCE", "embedding_size"), ("KSRSCE", "kg_embedding_size")]
    )
    def test_a_width_that_is_not_the_entities_is_named(self, zoo: Any, name: str, key: str) -> None:
        with pytest.raises(SettingsError, match=rf"{key} must be \d+ with this preload_weight, got 5"):
            zoo.model(name, **{key: 5})

    @pytest.mark.parametrize("base", ["GRU4RecKG", "KSR"])
    def test_items_entities_and_their_embeddings_are_recboles(self, zoo: Any, base: str) -> None:
        theirs, ours = zoo.data(base).dataset, zoo.data(f"{base}SCE", "last").dataset
        assert isinstance(ours, IndexedSequenceDataset)
        for field in ("user_id", "item_id", "entity_id", "head_id", "relation_id"):
            assert ours.num(field) == theirs.num(field)
        for field in ("item_id", "head_id", "relation_id", "ent_id", "rel_id"):
            assert list(ours.field2id_token[field]) == list(theirs.field2id_token[field])
        for field in ("ent_id", "rel_id"):
            matrix = theirs.get_preload_weight(field)
            assert matrix[1:4].any(1).all()
            assert (ours.get_preload_weight(field) == matrix).all()
        assert ours.item2entity == theirs.item2entity
        assert (ours[list(range(50))]["item_id_list"] == theirs[list(range(50))]["item_id_list"]).all()


class TestQuickStartFiles:
    """What RecBole reads for a base's exact name is read for its twin."""

    @pytest.mark.parametrize("base", ["GRU4RecF", "SASRecF", "FDSA"])
    def test_feature_models_load_the_features_of_ml_100k(self, base: str) -> None:
        for name in (base, f"{base}SCE"):
            config = Config(name, "ml-100k", config_dict={"train_neg_sample_args": None})
            assert config["load_col"]["item"] == ["item_id", "release_year", "class"]
        assert Config("SASRecSCE", "ml-100k")["load_col"].get("item") != ["item_id", "release_year", "class"]
        other = Config(f"{base}SCE", "ml-1m")
        assert "item" not in other["load_col"]

    @pytest.mark.parametrize("base", ["GRU4RecKG", "KSR"])
    def test_knowledge_models_load_embeddings(self, base: str) -> None:
        config = Config(f"{base}SCE", "tiny")
        theirs = Config(base, "tiny", config_dict={"train_neg_sample_args": None})
        for key in ("load_col", "additional_feat_suffix", "repeatable"):
            assert config[key] == theirs[key]
        assert config["eval_args"]["order"] == "TO"  # RecBole leaves RO, with which its own sequences fail

    def test_the_users_word_is_last(self) -> None:
        columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}
        assert Config("SASRecFSCE", "ml-100k", config_dict={"load_col": columns})["load_col"] == columns


class TestOthers:
    @torch.no_grad()
    def test_sine_with_reg_loss_ratio_is_recboles_nll(self, zoo: Any) -> None:
        theirs = zoo.model("SINE", loss_type="NLL", reg_loss_ratio=0.5).double().eval()
        ours = zoo.twins("SINE", reg_loss_ratio=0.5)[1]
        theirs.load_state_dict(ours.state_dict())
        batch = zoo.batch("SINE")
        logits = ours.encode(batch) @ ours.item_table().T
        excess = F.softplus(logits[:, 0] - logits[:, 1:].logsumexp(1)).mean()
        assert ours.extra_loss(batch, logits) > 1e-3
        close(ours.calculate_loss(batch) + excess, theirs.calculate_loss(batch))

    @torch.no_grad()
    @pytest.mark.parametrize("pooling", ["max", "average"])
    def test_hrm_leaves_the_batch_as_it_is(self, zoo: Any, pooling: str) -> None:
        model = zoo.model("HRMSCE", pooling_type_layer_1=pooling).eval()
        batch = zoo.batch("HRM", "test")
        lengths = batch["item_length"].clone()
        assert lengths.max() > model.high_order
        first = model.encode(batch)
        assert torch.equal(batch["item_length"], lengths)
        assert torch.equal(model.encode(batch), first)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"train_stage": "pretrain"}, "train_stage must be finetune with S3RecSCE, got 'pretrain'"),
            (
                {"train_stage": "finetune", "pre_model_path": "none.pth"},
                "pre_model_path must be a file .*, got 'none.pth'",
            ),
            ({}, "pre_model_path must be a file .*, got ''"),
        ],
    )
    def test_s3rec_says_early_what_it_needs(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            Config("S3RecSCE", "no-such-data", config_dict=settings)
