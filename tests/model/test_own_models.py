"""Classes of a user: what the mixin asks of them, and how it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.config import Config
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.model.sequential_recommender import GRU4Rec
from torch import nn

from recbole_sce import SCEMixin, register_model

pytestmark = pytest.mark.usefixtures("forget_registered")

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_model.py"


class Mean(SequentialRecommender):
    """Mean of the item embeddings."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.item_embedding = nn.Embedding(self.n_items, 8, padding_idx=0)

    def forward(self, item_seq: torch.Tensor, item_seq_len: torch.Tensor) -> torch.Tensor:
        return self.item_embedding(item_seq).sum(1) / item_seq_len.unsqueeze(1)


def test_what_a_model_writes_into_histories_beside_items_is_no_item(prepared: Any) -> None:
    class MaskedSCE(SCEMixin, Mean):
        def __init__(self, config: Any, dataset: Any) -> None:
            super().__init__(config, dataset)
            self.item_embedding = nn.Embedding(self.n_items + 1, 8, padding_idx=0)  # the last row is a mask

        def item_table(self) -> torch.Tensor:
            return self.item_embedding.weight[: self.n_items]

        def encode(self, interaction: Any) -> torch.Tensor:
            return torch.ones(len(interaction), 8)  # whatever the history

    def loss_of(run: Any, batch: Any) -> torch.Tensor:
        torch.manual_seed(0)
        loss: torch.Tensor = run.model.calculate_loss(batch)
        return loss

    register_model(MaskedSCE)
    for complete in (True, False):
        run = prepared("MaskedSCE", complete_softmax=complete, n_buckets=3, bucket_size_y=4, n_outside=9)
        batch = next(iter(run.train))
        with_items, losses = loss_of(run, batch), []
        for row in (run.model.n_items, 0):
            batch["item_id_list"][:, 0] = row
            losses.append(loss_of(run, batch))
        assert torch.equal(*losses)
        assert (not torch.equal(with_items, losses[0])) is complete


class TestWhatIsMissingIsNamed:
    def test_forward(self) -> None:
        class NoForwardSCE(SCEMixin, SequentialRecommender):
            pass

        with pytest.raises(TypeError, match="NoForwardSCE has no encoder: define forward"):
            register_model(NoForwardSCE)

    def test_inputs(self) -> None:
        class UserFirstSCE(SCEMixin, Mean):
            def forward(self, user: Any, item_seq: Any, item_seq_len: Any) -> Any:  # type: ignore[override]
                return None

        message = r"UserFirstSCE.forward\(self, user.* does not take ITEM_SEQ, ITEM_SEQ_LEN .*set encoder_"
        with pytest.raises(TypeError, match=message):
            register_model(UserFirstSCE)
        UserFirstSCE.encoder_inputs = ("USER_ID", "ITEM_SEQ", "ITEM_SEQ_LEN")
        assert register_model(UserFirstSCE) is UserFirstSCE

    def test_all_positions(self) -> None:
        class OneInputSCE(SCEMixin, Mean):
            causal = True
            encoder_inputs = ("ITEM_SEQ",)

            def forward(self, item_seq: Any) -> Any:  # type: ignore[override]
                return None

        with pytest.raises(TypeError, match="OneInputSCE is causal, so it needs encode_positions"):
            register_model(OneInputSCE)

    def test_gather_indexes(self, prepared: Any) -> None:
        class PooledSCE(SCEMixin, Mean):
            causal = True

            def forward(self, item_seq: Any, item_seq_len: Any) -> Any:
                return self.item_embedding(item_seq).mean(1)

        register_model(PooledSCE)
        run = prepared("PooledSCE")
        message = r"PooledSCE.forward gives states of shape \(32, 8\) .*Override encode_positions"
        with pytest.raises(TypeError, match=message):
            run.model.calculate_loss(next(iter(run.train)))

    def test_item_embedding(self, prepared: Any) -> None:
        class NoTableSCE(SCEMixin, Mean):
            def __init__(self, config: Any, dataset: Any) -> None:
                super().__init__(config, dataset)
                self.items = self._modules.pop("item_embedding")

            def encode(self, interaction: Any) -> torch.Tensor:
                return self.items(interaction[self.ITEM_SEQ]).sum(1)

        register_model(NoTableSCE)
        run = prepared("NoTableSCE")
        with pytest.raises(TypeError, match=r"NoTableSCE has no item_embedding, .*or override item_table"):
            run.model.calculate_loss(next(iter(run.train)))


class TestTheyWork:
    def test_a_model_of_two_lines(self, prepared: Any) -> None:
        @register_model
        class MeanSCE(SCEMixin, Mean):
            """All that a model of the common kind needs."""

        run = prepared("MeanSCE", loss_type="CE")
        batch = next(iter(run.train))
        hidden = run.model(batch["item_id_list"], batch["item_length"])
        expected = nn.functional.cross_entropy(
            hidden @ run.model.item_embedding.weight[1:].T, batch["item_id"] - 1
        )
        torch.testing.assert_close(run.model.calculate_loss(batch), expected)

    def test_a_base_finds_its_property_file_through_a_users_subclass(
        self, tiny_dataset: dict[str, Any]
    ) -> None:
        class MyGRU(GRU4Rec):
            pass

        @register_model
        class MyGRUSCE(SCEMixin, MyGRU):
            causal = True

        config = Config("MyGRUSCE", "tiny", config_dict=tiny_dataset)
        assert (config["num_layers"], config["loss_type"]) == (1, "SCE")

    @pytest.mark.slow
    def test_the_example_trains_and_ranks(self, tmp_path: Path) -> None:
        quick = ("--epochs=1", "--embedding_size=16", "--user_inter_num_interval=[20,22]")
        command = [sys.executable, str(EXAMPLE), *quick, "--MAX_ITEM_LIST_LENGTH=10", "--show_progress=False"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-3000:]
        assert "'ndcg@10'" in run.stdout
