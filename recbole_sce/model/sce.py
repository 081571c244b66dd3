"""The mixin that turns a RecBole sequential recommender into one trained by Scalable Cross-Entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor

from recbole_sce.data.fields import target_list_field
from recbole_sce.model.losses import build_loss
from recbole_sce.model.settings import SCESettings

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import SequentialDataset

    _Recommender = SequentialRecommender
else:
    _Recommender = object


class SCEMixin(_Recommender):  # type: ignore[misc]
    """Put before a RecBole sequential recommender, it replaces the item softmax of ``calculate_loss``.

    ``class SASRecSCE(SCEMixin, SASRec)`` keeps SASRec's encoder, its scoring and its parameters, and
    trains with the loss that ``loss_type`` names. What a model may say of itself:

    * ``causal``: the hidden state of a position depends on no later item, so that one pass over a
      sequence trains all of its positions (``train_positions: all``);
    * :meth:`encode`, :meth:`encode_positions`: how hidden states are made;
    * :meth:`item_table`: which table the softmax scores.
    """

    #: The loss draws what it needs itself; RecBole's loader then adds no sampled negatives.
    input_type = InputType.POINTWISE
    #: Whether a position's hidden state depends on the items up to that position only.
    causal = False

    def __init__(self, config: Config, dataset: SequentialDataset) -> None:
        settings = self.check_config(config)
        super().__init__(_EncoderConfig(config), dataset)
        self.settings = settings
        self.loss_type = settings.loss_type
        self.loss_fct = build_loss(settings)
        self.TARGET_SEQ = target_list_field(config)

    @classmethod
    def check_config(cls, config: Config) -> SCESettings:
        """Read this model's settings from ``config``.

        Raises:
            SettingsError: a value is impossible (see :meth:`SCESettings.from_config`).
        """
        return SCESettings.from_config(config, causal=cls.causal)

    def item_table(self) -> Tensor:
        """Return the table (n_items, d) that the softmax scores; its row 0 is RecBole's padding item."""
        return self.item_embedding.weight

    def encode(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, d) after the whole history of each row."""
        return self(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])

    def encode_positions(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, L, d) after each item of each row's history; causal models only."""
        item_seq = interaction[self.ITEM_SEQ]  # (B, L)
        prefix_lengths = torch.arange(1, item_seq.size(1) + 1, device=item_seq.device)
        return self(item_seq, prefix_lengths.expand_as(item_seq))

    def gather_indexes(self, output: Tensor, gather_index: Tensor) -> Tensor:
        """Select hidden states as RecBole does, or, for a two-dimensional index, keep every position.

        RecBole's encoders end in ``gather_indexes(output, item_seq_len - 1)``
        (``SequentialRecommender.gather_indexes``): output (B, L, d) and an index (B,) give (B, d). The
        index (B, L) of all prefixes, which :meth:`encode_positions` passes, gives ``output`` itself.
        """
        if gather_index.dim() == 2:
            return output
        return super().gather_indexes(output, gather_index)

    def training_states(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Return what a batch trains: hidden states (N, d) and the items (N,) int64 that follow them."""
        if self.settings.train_positions == "last":
            return self.encode(interaction), interaction[self.POS_ITEM_ID]
        targets = interaction[self.TARGET_SEQ]  # (B, L), 0 where a row has no target
        real = targets != 0
        return self.encode_positions(interaction)[real], targets[real]

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return the mean loss of the batch's positions, a scalar (RecBole: ``calculate_loss``)."""
        hidden, targets = self.training_states(interaction)
        loss: Tensor = self.loss_fct(hidden, self.item_table(), targets)
        return loss


class _EncoderConfig:
    """RecBole's configuration as an encoder's constructor is to see it: with a loss that RecBole knows.

    The constructors of RecBole's models refuse any ``loss_type`` but CE and BPR; the loss that they build
    is replaced.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    def __getitem__(self, key: str) -> Any:
        return "CE" if key == "loss_type" else self._config[key]

    def __contains__(self, key: str) -> bool:
        return key in self._config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, name)
