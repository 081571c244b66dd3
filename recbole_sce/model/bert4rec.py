"""BERT4Rec (Sun et al., 2019) trained by Scalable Cross-Entropy."""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import BERT4Rec
from torch import Tensor

from recbole_sce.data.transfer import on_host
from recbole_sce.model.mixin import SCEMixin
from recbole_sce.utils.devices import to_device


class BERT4RecSCE(SCEMixin, BERT4Rec):  # type: ignore[misc]
    """Bidirectional self-attention that restores masked items (Sun et al., 2019).

    RecBole masks a batch in a Python loop (``transform: mask_itemseq``). Where it masks nothing that is
    trained, the loss is zero (RecBole's is NaN).
    """

    ignores_padding = True

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
        """Return masked positions, all but the first of a row.

        RecBole marks unused places of ``MASK_INDEX`` by 0, and so does not train a mask at position 0 either.

        Returns:
            Hidden states (N, d + 1), the items (N,) int64 behind the masks, and the row (N,) int64 of each.
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
