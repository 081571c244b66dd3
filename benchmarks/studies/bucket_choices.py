"""A study: buckets chosen in other ways than the package chooses them.

``centers``: what the centres are. ``mixtures`` of hidden states are the package's; ``states`` are hidden
states as they are, drawn at random; ``targets`` are mixtures of the embeddings of the items that follow.
``refresh``: for how many steps centres and the items of their buckets stay, 1 in the package. The states of a
bucket are those of the batch, in each step. Both have to be said.

The loss is the package's. Which loss of a state in several buckets counts is ``completed_softmax.py``'s
``over_buckets``. ``run.py`` trains it.
"""

import math
from typing import Any

import torch
from completed_softmax import NextItemSASRec, StudiedLoss
from torch import Tensor

from recbole_sce import (
    Histories,
    register_model,
    sample_items,
    scalable_cross_entropy,
    select_buckets,
)
from recbole_sce.loss.sce.buckets import Buckets, bucket_centers
from recbole_sce.loss.sce.search import top_rows

CENTERS = ("mixtures", "states", "targets")


class BucketChoice:
    def __init__(self, centers: str, refresh: int) -> None:
        if centers not in CENTERS:
            raise ValueError(f"centers must be one of {', '.join(CENTERS)}, got {centers!r}")
        self.kind, self.refresh = centers, refresh
        self.centers: Tensor | None = None
        self.items: Tensor | None = None
        self.steps = 0

    def __call__(self, hidden: Tensor, table: Tensor, targets: Tensor, b_y: int, alpha: float) -> Buckets:
        size = max(1, int(alpha * math.sqrt(len(hidden))))
        self.steps += 1
        if self.centers is None or self.items is None or (self.steps - 1) % self.refresh == 0:
            self.centers = self.draw(hidden, table[targets], size)
            rows, self.items = select_buckets(hidden, table, self.centers, size, b_y, (0,))
        else:
            rows = top_rows(self.centers, hidden, size)
        return Buckets(rows, self.items)

    def draw(self, hidden: Tensor, following: Tensor, n_buckets: int) -> Tensor:
        """Return centres (n_buckets, d), from states and the embeddings of what follows them, both (N, d)."""
        if self.kind == "states":
            return hidden[torch.randint(len(hidden), (n_buckets,))]
        return bucket_centers(hidden if self.kind == "mixtures" else following, n_buckets)


@register_model
class SASRecBucketChoiceSCE(NextItemSASRec):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        choice = BucketChoice(str(config["centers"]), int(config["refresh"]))
        b_y, alpha, n_outside = (
            getattr(self.loss_fct, name) for name in ("bucket_size_y", "alpha", "n_outside")
        )

        def loss_fn(hidden: Tensor, table: Tensor, targets: Tensor, histories: Histories) -> Tensor:
            buckets = choice(hidden.detach(), table.detach(), targets, b_y, alpha)
            sample = sample_items(len(table), n_outside)
            return scalable_cross_entropy(hidden, table, targets, buckets, sample, histories)

        self.loss_fct = StudiedLoss(loss_fn, needs_histories=True)
