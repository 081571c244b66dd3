"""RecBole's collector of evaluation results, fed with rankings instead of scores."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from torch import Tensor

from recbole_sce.evaluator.ranking import Ranking


class StreamingCollector(Collector):  # type: ignore[misc]
    """Gathers from a :class:`Ranking` what RecBole's collector gathers from a score matrix (B, C).

    Entries, shapes and dtypes of the data struct are those of ``Collector.eval_batch_collect``, so that
    RecBole's metrics read them unchanged.
    """

    def eval_batch_collect(
        self,
        scores_tensor: Ranking | Tensor,
        interaction: Interaction,
        positive_u: Tensor,
        positive_i: Tensor,
    ) -> None:
        """Gather one batch (RecBole's contract, with a ranking in the place of scores)."""
        if not isinstance(scores_tensor, Ranking):
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        for name, value in self._entries(scores_tensor).items():
            if self.register.need(name):
                self.data_struct.update_tensor(name, value)

    @property
    def needs_ranks(self) -> bool:
        """Whether a metric asks for the ranks of targets (GAUC)."""
        return bool(self.register.need("rec.meanrank"))

    def _entries(self, ranking: Ranking) -> dict[str, Any]:
        items = ranking.items.cpu()
        entries: dict[str, Any] = {"rec.items": items}  # (B, k) int64
        targets = ranking.targets
        if targets is None:
            return entries
        n_rows = len(items)
        n_targets = torch.bincount(targets.rows, minlength=n_rows).unsqueeze(1)  # (B, 1)
        # A cell of the (B, C) matrix as one number; ids of items stay below the factor.
        factor = int(torch.cat([items.flatten(), targets.items, n_targets.new_zeros(1)]).max()) + 1
        rows = torch.arange(n_rows).unsqueeze(1)
        hits = torch.isin(rows * factor + items, targets.rows * factor + targets.items)  # (B, k)
        entries["rec.topk"] = torch.cat([hits.long(), n_targets], 1)
        if ranking.target_ranks is not None:
            rank_sums = torch.zeros(n_rows).index_add(0, targets.rows, ranking.target_ranks.cpu())
            columns = [rank_sums, ranking.n_candidates, n_targets.squeeze(1)]
            entries["rec.meanrank"] = torch.stack([column.to(ranking.scores.dtype) for column in columns], 1)
        return entries
