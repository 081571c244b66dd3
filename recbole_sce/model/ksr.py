"""KSR (Huang et al., 2018) trained by Scalable Cross-Entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from recbole.model.sequential_recommender import KSR
from torch import Tensor

from recbole_sce.data.knowledge import check_width
from recbole_sce.model.mixin import SCEMixin

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import SequentialDataset


class KSRSCE(SCEMixin, KSR):  # type: ignore[misc]
    """Recurrent network and a key-value memory of a knowledge graph (Huang et al., 2018).

    Needs a knowledge graph and ``preload_weight: {ent_id: ..., rel_id: ...}``, embeddings of its entities
    and relations. Makes the table anew at each step, a dense layer over all items. RecBole's own KSR fails in
    its first batch, since the relations' embeddings stay float64.
    """

    ignores_padding = True
    relation_Matrix: Tensor  # (relations, k)

    def __init__(self, config: Config, dataset: SequentialDataset) -> None:
        check_width(config, dataset, "kg_embedding_size")
        super().__init__(config, dataset)
        self.relation_Matrix = self.relation_Matrix.to(self.entity_embedding.weight.dtype)

    def item_table(self) -> Tensor:
        """Return a linear layer of ``item_embedding`` joined with ``entity_embedding``."""
        joined = torch.cat((self.item_embedding.weight, self.entity_embedding.weight), 1)  # (n_items, d + k)
        table: Tensor = self.dense_layer_i(joined)
        return table

    def memory_update(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Return the memory (B, relations, k) of each row after its last item.

        RecBole: ``KSR.memory_update``, which picks by masks the rows that end with an item, and so waits for
        an accelerator at each item.
        """
        memory = self.entity_embedding.weight.new_zeros(len(item_seq), *self.relation_Matrix.shape)
        of_last = torch.zeros_like(memory)
        for place in range(item_seq.size(1)):
            _, update = self._get_kg_embedding(item_seq[:, place])
            memory = self._memory_update_cell(memory, update)
            ends = (item_seq_len - 1 == place).view(-1, 1, 1)
            of_last = torch.where(ends, memory, of_last)
        return of_last
