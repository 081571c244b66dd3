"""BERT4Rec (Sun et al., 2019) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import BERT4Rec
from torch import Tensor

from recbole_sce.data.transfer import on_host
from recbole_sce.model.mixin import SCEMixin
from recbole_sce.settings import SCESettings, SettingsError
from recbole_sce.settings.checks import Trains
from recbole_sce.settings.schema import sentence
from recbole_sce.utils.devices import to_device

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import SequentialDataset


class BERT4RecSCE(SCEMixin, BERT4Rec):  # type: ignore[misc]
    """Bidirectional self-attention that restores masked items (Sun et al., 2019).

    Whole sequences are masked here, in each batch anew: items with the probability ``mask_ratio``, or, in the
    share ``ft_ratio`` of rows, the last one alone. With ``train_positions: last`` RecBole masks prefixes, in
    a Python loop (``transform: mask_itemseq``), and never the last one alone: its transform does not find
    ``ft_ratio``. Where nothing that is trained is masked, the loss is zero (RecBole's is NaN).
    """

    ignores_padding = True

    def __init__(self, config: Config, dataset: SequentialDataset) -> None:
        super().__init__(config, dataset)
        self.ft_ratio: float = config["ft_ratio"]

    @classmethod
    def trains(cls) -> Trains:
        """Return what one pass over a sequence can train."""
        return "masked"

    @classmethod
    def check_config(cls, config: Config) -> SCESettings:
        """Read this model's settings from ``config``.

        Raises:
            SettingsError: a value is impossible.
        """
        settings = super().check_config(config)
        if settings.train_positions == "last" and config["transform"] != "mask_itemseq":
            remedy = "RecBole's transform makes the masks of prefixes"
            allowed = "mask_itemseq with train_positions last"
            raise SettingsError(sentence("transform", allowed, config["transform"], remedy))
        return settings

    def item_table(self) -> Tensor:
        """Return ``item_embedding`` without the mask row, and ``output_bias`` as one more column.

        (n_items, d + 1): against hidden states that end in 1, products are RecBole's scores, bias included,
        in the loss as in the search for the items of a bucket.
        """
        return torch.cat((self.item_embedding.weight[: self.n_items], self.output_bias.unsqueeze(1)), 1)

    def reconstruct_test_data(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Return histories (B, L) with a mask behind their last item, without the first place.

        RecBole: ``BERT4Rec.reconstruct_test_data``, which writes one row at a time.
        """
        longer = torch.nn.functional.pad(item_seq, (0, 1))  # (B, L + 1)
        masked: Tensor = longer.scatter(1, item_seq_len.long().unsqueeze(1), self.mask_token)[:, 1:]
        return masked

    def encode(self, interaction: Interaction) -> Tensor:
        """Return the hidden states (B, d + 1) of a mask behind the whole history of each row."""
        lengths = interaction[self.ITEM_SEQ_LEN]
        masked_seq = self.reconstruct_test_data(interaction[self.ITEM_SEQ], lengths)  # (B, L)
        return _with_one(self.gather_indexes(self(masked_seq), lengths - 1))

    def training_states(self, interaction: Interaction) -> tuple[Tensor, Tensor, Tensor]:
        """Return masked positions.

        Returns:
            Hidden states (N, d + 1), the items (N,) int64 behind the masks, and the row (N,) int64 of each.
        """
        if self.settings.train_positions == "last":
            return self._states_of_prefixes(interaction)
        items = self._whole_sequences(interaction)  # (B, W)
        rows, places = torch.nonzero(self._masks(interaction, items.size(1)), as_tuple=True)  # (N,) each
        cells = to_device(rows, items.device), to_device(places, items.device)
        hidden = self(items.index_put(cells, items.new_tensor(self.mask_token)))  # (B, W, d)
        return _with_one(hidden[cells]), items[cells], rows

    def _whole_sequences(self, interaction: Interaction) -> Tensor:
        """Return histories with what follows them (B, W) int64, without the oldest if there is no room."""
        history, lengths = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN].long().unsqueeze(1)
        following = interaction[self.POS_ITEM_ID].unsqueeze(1)
        items = torch.nn.functional.pad(history, (0, 1)).scatter(1, lengths, following)
        return self._without_oldest(items, lengths)

    def _masks(self, interaction: Interaction, width: int) -> Tensor:
        """Draw which places of the whole sequences are masked: (B, width) bool, on the CPU.

        Places that a window has for context alone are not: another window trains them.
        """
        is_target = on_host(interaction, self.TARGET_SEQ) != 0
        lengths = on_host(interaction, self.ITEM_SEQ_LEN).long().unsqueeze(1)  # (B, 1), without what follows
        # what nothing comes before is no target, but can be restored
        is_trained = self._without_oldest(torch.cat((is_target[:, :1], is_target), 1), lengths)
        last = lengths.clamp(max=self.max_seq_length - 1)
        # drawn for full rows, so that masks do not depend on the padding of a batch
        is_drawn = torch.rand(len(lengths), self.max_seq_length)[:, :width] < self.mask_ratio
        is_last = torch.arange(width) == last
        last_alone = torch.rand(len(lengths), 1) < self.ft_ratio
        return is_trained & torch.where(last_alone, is_last, is_drawn)

    def _without_oldest(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return rows (B, W) of length + 1 values, without the first one where they are too long."""
        if values.size(1) <= self.max_seq_length:
            return values
        return torch.where(lengths == self.max_seq_length, values[:, 1:], values[:, :-1])

    def _states_of_prefixes(self, interaction: Interaction) -> tuple[Tensor, Tensor, Tensor]:
        """Return what RecBole's transform has masked.

        It marks unused places of ``MASK_INDEX`` by 0, and so does not train a mask at position 0 either.
        """
        index = interaction[self.MASK_INDEX]  # (B, masks), 0 where there is none
        rows, places = torch.nonzero(on_host(interaction, self.MASK_INDEX), as_tuple=True)  # (N,) each
        of_row = to_device(rows, index.device)
        cells = of_row, to_device(places, index.device)
        hidden = self(interaction[self.MASK_ITEM_SEQ])  # (B, L, d)
        targets = interaction[self.POS_ITEMS][cells]
        return _with_one(hidden[of_row, index[cells]]), targets, rows


def _with_one(hidden: Tensor) -> Tensor:
    return torch.cat((hidden, hidden.new_ones(len(hidden), 1)), 1)
