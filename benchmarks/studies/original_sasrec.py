"""A study: SASRec's encoder as its authors, and those of SCE, build it, where RecBole builds it otherwise.

Kang and McAuley (ICDM 2018): item embeddings are scaled by sqrt(d); queries alone are normalised before
attention, and the residual is the normalised query; the feed-forward layer is as wide as the model, with
ReLU; the last output is normalised; weights start from Xavier's distribution. RecBole's SASRec normalises the
embeddings and behind each layer, and starts from N(0, 0.02). ``run.py`` trains it.
"""

import math
from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn

from recbole_sce import SCEMixin, register_model


class _Block(nn.Module):
    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width, eps=1e-8)
        self.attention = nn.MultiheadAttention(width, n_heads, dropout, batch_first=True)
        self.before_feed_forward = nn.LayerNorm(width, eps=1e-8)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, width),
            nn.Dropout(dropout),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.Dropout(dropout),
        )

    def forward(self, states: Tensor, later: Tensor) -> Tensor:
        queries = self.before_attention(states)  # (B, L, d)
        attended, _ = self.attention(queries, states, states, attn_mask=later, need_weights=False)
        states = self.before_feed_forward(queries + attended)
        return states + self.feed_forward(states)


class OriginalSASRec(SequentialRecommender):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width, dropout = config["hidden_size"], config["hidden_dropout_prob"]
        self.item_embedding = nn.Embedding(self.n_items, width, padding_idx=0)
        self.position_embedding = nn.Embedding(self.max_seq_length, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            _Block(width, config["n_heads"], dropout) for _ in range(config["n_layers"])
        )
        self.last_norm = nn.LayerNorm(width, eps=1e-8)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        width, length = self.item_embedding.embedding_dim, item_seq.size(1)
        positions = torch.arange(length, device=item_seq.device)
        states = self.item_embedding(item_seq) * math.sqrt(width) + self.position_embedding(positions)
        states = self.dropout(states)  # (B, L, d)
        later = torch.ones(length, length, dtype=torch.bool, device=item_seq.device).triu(1)
        for block in self.blocks:
            states = block(states, later)
        return self.gather_indexes(self.last_norm(states), item_seq_len - 1)


@register_model
class OriginalSASRecSCE(SCEMixin, OriginalSASRec):
    causal = True
