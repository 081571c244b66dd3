"""The mixin that turns a RecBole sequential recommender into one trained by Scalable Cross-Entropy."""

from __future__ import annotations

import copy
import inspect
import logging
from typing import TYPE_CHECKING

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_sce.data.fields import target_list_field
from recbole_sce.data.transfer import on_host
from recbole_sce.loss import call_loss, check_discount
from recbole_sce.model.encoder import fuse_layers
from recbole_sce.model.losses import build_loss, resolve_loss_type
from recbole_sce.settings import SCESettings, parse_settings, settings_of
from recbole_sce.settings.checks import Trains
from recbole_sce.settings.recipes import choose_recipe
from recbole_sce.utils.devices import to_device

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import SequentialDataset

    _Recommender = SequentialRecommender
else:
    _Recommender = object


class SCEMixin(_Recommender):  # type: ignore[misc, valid-type]
    """Put before a RecBole sequential recommender, it replaces the item softmax of ``calculate_loss``.

    ``class SASRecSCE(SCEMixin, SASRec)`` keeps SASRec's encoder and its parameters, and trains with the
    loss that ``loss_type`` names. Scores are products of hidden states and one table, in training as in
    evaluation. What a model may say of itself:

    * ``encoder_inputs``: the fields that its ``forward`` takes, by RecBole's attribute names;
    * ``causal``: the hidden state of a position depends on no later item, so that one pass over a
      sequence trains all of its positions (``train_positions: all``);
    * ``ignores_padding``: hidden states and losses are the same however wide the padding of a batch is, so
      that batches are cut to their longest row;
    * :meth:`encode`, :meth:`encode_positions`: how hidden states are made, where ``forward`` does not say;
    * :meth:`item_table`: which table the softmax scores;
    * :meth:`extra_loss`: what its base adds to the item softmax;
    * :meth:`training_states`: which states a batch trains;
    * :meth:`row_items`: the items of a row, which the completed softmax scores one by one, and which updates
      of single rows bring up to date before a step.
    """

    #: The loss draws what it needs itself; RecBole's loader then adds no sampled negatives.
    input_type = InputType.POINTWISE
    #: Whether a position's hidden state depends on the items up to that position only.
    causal = False
    #: Whether columns of padding, which all rows of a batch have at their end, change nothing.
    ignores_padding = False
    #: What ``forward`` takes, in order: names of attributes that hold the names of batch fields.
    encoder_inputs: tuple[str, ...] = ("ITEM_SEQ", "ITEM_SEQ_LEN")

    def __init__(self, config: Config, dataset: SequentialDataset) -> None:
        choose_recipe(config, dataset)
        settings = settings_of(config)
        super().__init__(_encoder_config(config), dataset)
        fuse_layers(self)
        self.settings = settings
        n_items = self.n_items - 1  # without padding
        #: What ``loss_type`` stands for: of ``auto``, the loss chosen.
        self.loss_type = resolve_loss_type(settings, n_items)
        self.loss_fct: nn.Module = build_loss(settings, n_items)
        if settings.loss_type == "auto":
            logging.getLogger().info(f"loss_type: auto is {self.loss_type} for {n_items:,} items")
        self.TARGET_SEQ = target_list_field(config)
        fields = (self.ITEM_ID, *getattr(self, "sequence_fields", ()))
        #: Batch fields (B, L, ...) that hold a value for each item of a history.
        self.HISTORY_FIELDS = tuple(f"{field}{config['LIST_SUFFIX']}" for field in fields)

    @classmethod
    def trains(cls) -> Trains:
        """Return what one pass over a sequence can train."""
        return "all" if cls.causal else "last"

    @classmethod
    def check_config(cls, config: Config) -> SCESettings:
        """Read this model's settings from ``config``; all others ask ``recbole_sce.settings.settings_of``.

        Raises:
            SettingsError: a value is impossible (:func:`recbole_sce.settings.parse_settings`).
        """
        return parse_settings(config, cls.trains())

    @classmethod
    def check_class(cls) -> None:
        """Check that the class has what the mixin builds on, as far as a class can tell.

        Raises:
            TypeError: something is missing; the message names it and what to do.
        """
        if cls.encode is SCEMixin.encode:
            if cls.forward is nn.Module.forward:
                raise TypeError(f"{cls.__name__} has no encoder: define forward, or override encode")
            signature = inspect.signature(cls.forward)
            try:
                signature.bind(None, *cls.encoder_inputs)
            except TypeError as error:
                raise TypeError(
                    f"{cls.__name__}.forward{signature} does not take {', '.join(cls.encoder_inputs)} "
                    f"({error}): set encoder_inputs to the fields it takes, such as ('ITEM_SEQ', 'USER_ID'), "
                    "or override encode"
                ) from None
        if (
            cls.causal
            and cls.encode_positions is SCEMixin.encode_positions
            and cls.encoder_inputs != SCEMixin.encoder_inputs
        ):
            raise TypeError(
                f"{cls.__name__} is causal, so it needs encode_positions: only a forward that takes item_seq "
                "and item_seq_len is known to give all positions"
            )

    def item_table(self) -> Tensor:
        """Return the table (n_items, d) that the softmax scores; its row 0 is RecBole's padding item.

        Raises:
            TypeError: the model has no ``item_embedding``.
        """
        if not hasattr(self, "item_embedding"):
            raise TypeError(
                f"{type(self).__name__} has no item_embedding, the table (n_items, d) that the softmax "
                "scores: set self.item_embedding = nn.Embedding(self.n_items, ...), or override item_table"
            )
        table: Tensor = self.item_embedding.weight
        return table

    def encode(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, d) after the whole history of each row."""
        hidden: Tensor = self(*(interaction[getattr(self, name)] for name in self.encoder_inputs))
        return hidden

    def encode_positions(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, L, d) after each item of each row's history; causal models only.

        Raises:
            TypeError: ``forward`` does not end in ``gather_indexes``, so that it gives no such states.
        """
        item_seq = interaction[self.ITEM_SEQ]  # (B, L)
        prefix_lengths = torch.arange(1, item_seq.size(1) + 1, device=item_seq.device)
        hidden: Tensor = self(item_seq, prefix_lengths.expand_as(item_seq))
        if hidden.shape[:-1] != item_seq.shape:
            raise TypeError(
                f"{type(self).__name__}.forward gives states of shape {tuple(hidden.shape)} for all "
                f"positions of {tuple(item_seq.shape)} items: it does not select them by "
                "gather_indexes(output, item_seq_len - 1). Override encode_positions, or say causal = False"
            )
        return hidden

    def gather_indexes(self, output: Tensor, gather_index: Tensor) -> Tensor:
        """Select hidden states as RecBole does, or, for a two-dimensional index, keep every position.

        RecBole's encoders end in ``gather_indexes(output, item_seq_len - 1)``
        (``SequentialRecommender.gather_indexes``): output (B, L, d) and an index (B,) give (B, d). The
        index (B, L) of all prefixes, which :meth:`encode_positions` passes, gives ``output`` itself.
        """
        if gather_index.dim() == 2:
            return output
        selected: Tensor = super().gather_indexes(output, gather_index)
        return selected

    def training_states(self, interaction: Interaction) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a batch trains: hidden states (N, d), the items (N,) int64 that follow them, and rows.

        Rows (N,) int64, ascending, say which row of the batch a state is of; within a row states are in the
        order of the sequence. They are best on the CPU, where the losses read them.
        """
        if self.settings.train_positions == "last":
            targets = interaction[self.POS_ITEM_ID]  # (B,)
            return self.encode(interaction), targets, torch.arange(len(targets))
        if self.TARGET_SEQ not in interaction:
            raise ValueError(
                f"train_positions: all trains windows, and this batch has none (no {self.TARGET_SEQ}): take "
                "the training loader of recbole.data.data_preparation, or set train_positions: last"
            )
        targets = interaction[self.TARGET_SEQ]  # (B, L), 0 where a row has no target
        rows, places = torch.nonzero(on_host(interaction, self.TARGET_SEQ), as_tuple=True)  # (N,) each
        cells = to_device(rows, targets.device), to_device(places, targets.device)
        return self.encode_positions(interaction)[cells], targets[cells], rows

    def extra_loss(self, interaction: Interaction, hidden: Tensor) -> Tensor:
        """Return what the model's base adds to its item softmax, a scalar; zero unless a model says more.

        Args:
            interaction: the batch.
            hidden: (N, d), the states that :meth:`training_states` gave for it.
        """
        return hidden.new_zeros(())

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Return the mean loss of the batch's positions and the extra loss, a scalar (RecBole's contract)."""
        hidden, targets, rows = self.training_states(interaction)
        check_discount(self.loss_fct, self.settings.target_discount)
        loss = call_loss(
            self.loss_fct, hidden, self.item_table(), targets, rows, lambda: self.row_items(interaction)
        )
        return loss + self.extra_loss(interaction, hidden)

    def row_items(self, interaction: Interaction) -> Tensor:
        """Return each row's items (B, L + 1) int64: history, 0 where it is shorter, and what follows it."""
        return torch.cat((interaction[self.ITEM_SEQ], interaction[self.POS_ITEM_ID].unsqueeze(1)), 1)

    def predict(self, interaction: Interaction) -> Tensor:
        """Return the score (B,) of each row's item (RecBole's contract)."""
        items = self.item_table()[interaction[self.ITEM_ID]]  # (B, d)
        return torch.mul(self.encode(interaction), items).sum(dim=1)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Return the scores (B, n_items) of all items (RecBole's contract)."""
        return self.encode(interaction) @ self.item_table().T


def _encoder_config(config: Config) -> Config:
    """Return the configuration as an encoder's constructor is to see it: with a loss that RecBole knows.

    The constructors of RecBole's models refuse any ``loss_type`` but their own; the loss that they build
    is replaced.
    """
    seen = copy.copy(config)
    seen.final_config_dict = {**config.final_config_dict, "loss_type": "CE"}
    return seen
