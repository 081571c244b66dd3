"""The trainer of plugin models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.interaction import Interaction
from recbole.utils import EvaluatorType, set_color
from torch import Tensor

from recbole_sce.data.transfer import move
from recbole_sce.evaluator.collector import StreamingCollector
from recbole_sce.evaluator.encoding import encode_rows, streams
from recbole_sce.evaluator.pairs import Pairs
from recbole_sce.evaluator.ranking import Ranking, join_rankings, rank_candidates, rank_catalogue
from recbole_sce.training import distributed
from recbole_sce.training.callbacks.finite import FiniteNumbers
from recbole_sce.training.callbacks.steps import COVERAGE, EpochSteps
from recbole_sce.training.fused import fused
from recbole_sce.training.resumable import ResumableTrainer
from recbole_sce.training.row_adam import RowAdam
from recbole_sce.training.sparse import RowsUpToDate, updates_rows, use_sparse_item_gradients
from recbole_sce.utils import processes

if TYPE_CHECKING:
    from recbole.config import Config

    from recbole_sce.model.mixin import SCEMixin

#: Rows whose whole histories are held at a time; on an accelerator, which is waited for each time, more.
_ROWS_AT_ONCE = 1024
_ROWS_AT_ONCE_ON_DEVICE = 4096


class SCETrainer(ResumableTrainer):
    """RecBole's trainer, for models whose catalogue is large.

    * Evaluation ranks chunk by chunk (:mod:`recbole_sce.evaluator.ranking`), with RecBole's results, in
      ``eval_memory_mb``, whatever ``eval_batch_size`` says. With ``exclude_seen`` it leaves out what a user
      has interacted with before.
    * With ``sparse_item_updates`` a step updates only the rows of the item table that it touched
      (:class:`recbole_sce.training.row_adam.RowAdam`).
    * The share of states that fell into a bucket is logged with the training loss; TensorBoard gets it too,
      and the seconds and the peak memory of steps (:mod:`recbole_sce.training.callbacks.steps`).
    * A loss that is no number ends training before its step is taken, with an error that says where it comes
      from (:mod:`recbole_sce.training.callbacks.finite`); so do weights that are none, before a checkpoint is
      written.
    * A run that was cut off goes on where it was (:mod:`recbole_sce.training.resumable`).
    """

    model: SCEMixin

    def __init__(self, config: Config, model: SCEMixin) -> None:
        self.settings = model.settings
        longest = max(config["topk"])
        if longest > model.n_items:
            raise ValueError(
                f"topk must be at most {model.n_items}, the number of items of {config['dataset']} with "
                f"RecBole's padding item, got {longest}"
            )
        self.updates_rows = updates_rows(config, model)
        self._exchanged = distributed.keep_from_ddp(model) if self.updates_rows else None
        super().__init__(config, model)
        if not streams(model):
            self._evaluate_densely()
        self.eval_collector = StreamingCollector(config)
        self._steps, self._finite = EpochSteps(model, self.device), FiniteNumbers(model)
        self.callbacks.append(self._finite)
        if isinstance(self.optimizer, RowAdam) and self.table is not None:
            self.callbacks.append(RowsUpToDate(self.optimizer, self.table, self.model.row_items))
        if processes.together():
            self.callbacks.append(distributed.WeighedByStates(model))
        self.callbacks.append(self._steps)
        self._eval_dataset: Any = None
        self._eval_rows: Iterator[list[int]] = iter(())
        self._item_table: Tensor | None = None
        self._short: Any = 0  # evaluated rows with fewer candidates than topk

    def _evaluate_densely(self) -> None:
        """Say what a model loses that scores in a way of its own.

        Raises:
            ValueError: ``exclude_seen`` is asked for.
        """
        name = type(self.model).__name__
        if self.settings.exclude_seen:
            raise ValueError(
                f"exclude_seen must be False with {name}, which defines full_sort_predict, got True: models "
                "that define encode and item_table instead can leave seen items out"
            )
        self.logger.warning(
            f"{name} defines full_sort_predict: evaluation holds eval_batch_size x n_items scores. It "
            "would not with encode and item_table instead"
        )

    # Training

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        if not self.updates_rows:
            return fused(super()._build_optimizer(**kwargs))
        self.table = use_sparse_item_gradients(self.model)
        certain = [self.table] if self.settings.sparse_item_updates is True else []
        optimizer = RowAdam(
            self.model.parameters(), certain, lr=self.learning_rate, weight_decay=self.weight_decay
        )
        if processes.together():
            distributed.exchange_rows(self.table, optimizer)
        return optimizer

    def sync_grad_loss(self) -> Any:
        """Give every parameter that DistributedDataParallel exchanges a gradient (RecBole's contract)."""
        if self._exchanged is None:
            return super().sync_grad_loss()
        return sum(p.sum() * 0 for p in self.model.parameters() if p is not self._exchanged)

    def _check_nan(self, loss: Tensor) -> None:
        """Refuse a loss that is not finite (RecBole: ``_check_nan``).

        Raises:
            NonFiniteError: it is not.
        """
        with torch.autocast(device_type=self.device.type, enabled=self.enable_amp):
            self._finite.check(loss)

    @property
    def coverage(self) -> float | None:
        """Mean share of states that were in a bucket in the last epoch's steps; None of other losses."""
        return self._steps.scalars.get(COVERAGE)

    def _generate_train_loss_output(self, epoch_idx: int, s_time: float, e_time: float, losses: Any) -> str:
        line: str = super()._generate_train_loss_output(epoch_idx, s_time, e_time, losses)
        if self.coverage is None:
            return line
        return f"{line[:-1]}, {set_color('coverage', 'blue')}: {self.coverage:.4f}]"

    def _add_train_loss_to_tensorboard(self, epoch_idx: int, losses: Any, tag: str = "Loss/Train") -> None:
        super()._add_train_loss_to_tensorboard(epoch_idx, losses, tag)
        for name, value in self._steps.scalars.items():
            self.tensorboard.add_scalar(name, value, epoch_idx)

    # Evaluation

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Evaluate the model (RecBole: ``Trainer.evaluate``)."""
        if eval_data and isinstance(eval_data, FullSortEvalDataLoader):
            # Evaluation loaders never shuffle: a second pass over their sampler gives the rows of each batch.
            self._eval_dataset, self._eval_rows = eval_data._dataset, iter(eval_data.batch_sampler)
        self._short = 0
        try:
            result = super().evaluate(eval_data, load_best_model, model_file, show_progress)
        finally:
            self._item_table = None
        if int(self._short):
            self.logger.warning(
                f"topk: {int(self._short)} of the evaluated rows have fewer than "
                f"{max(self.config['topk'])} items left with exclude_seen: the places behind are empty, and "
                "metrics over lists count them as item 0"
            )
        return result

    def _full_sort_batch_eval(self, batched_data: Any) -> tuple[Interaction, Any, Tensor, Tensor]:
        """Rank a batch; RecBole returns its scores, this a :class:`Ranking` in their place."""
        if not streams(self.model):
            scored: tuple[Interaction, Any, Tensor, Tensor] = super()._full_sort_batch_eval(batched_data)
            return scored
        interaction, _, positive_u, positive_i = batched_data
        rows = torch.tensor(next(self._eval_rows))  # (B,)
        if self._item_table is None:
            self._item_table = self.model.item_table().detach()
        parts = []
        at_once = _ROWS_AT_ONCE if self.device.type == "cpu" else _ROWS_AT_ONCE_ON_DEVICE
        for start in range(0, len(rows), at_once):
            stop = start + at_once
            here = (positive_u >= start) & (positive_u < stop)
            parts.append(
                self._rank(
                    interaction[start:stop],
                    rows[start:stop],
                    Pairs(positive_u[here] - start, positive_i[here]),
                    self._item_table,
                )
            )
        return interaction, join_rankings(parts), positive_u, positive_i

    def _rank(self, interaction: Interaction, rows: Tensor, targets: Pairs, item_table: Tensor) -> Ranking:
        exclude = None
        if self.settings.exclude_seen:
            exclude = Pairs(*self._eval_dataset.history(rows))
        ranking = rank_catalogue(
            encode_rows(self.model, interaction, self.device),
            item_table,
            max(self.config["topk"]),
            targets,
            exclude,
            self.eval_collector.needs_ranks,
            self.settings.eval_memory_mb,
        )
        if exclude is not None:
            self._short = self._short + (ranking.scores[:, -1] == -torch.inf).sum()  # read once, at the end
        return ranking

    def _neg_sample_batch_eval(self, batched_data: Any) -> tuple[Interaction, Any, Tensor, Tensor]:
        """Rank the sampled candidates of a batch, without RecBole's score matrix (users, n_items)."""
        if self.config["eval_type"] != EvaluatorType.RANKING:
            scored: tuple[Interaction, Any, Tensor, Tensor] = super()._neg_sample_batch_eval(batched_data)
            return scored
        interaction, row_idx, positive_u, positive_i = batched_data
        if interaction.length <= self.test_batch_size:
            scores = self.model.predict(move(interaction, self.device))
        else:
            scores = self._spilt_predict(interaction, interaction.length)
        items = interaction[self.config["ITEM_ID_FIELD"]]
        ranking = rank_candidates(
            Pairs(row_idx, items),
            scores,
            int(positive_u[-1]) + 1,
            self.tot_item_num,
            max(self.config["topk"]),
            Pairs(positive_u, positive_i),
            self.settings.eval_memory_mb,
        )
        return interaction, ranking, positive_u, positive_i
