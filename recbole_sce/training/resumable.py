"""A trainer whose run can be cut off at any moment, and goes on as if it had not been."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Optional

from recbole.trainer import Trainer
from recbole.utils import set_color
from torch import nn

from recbole_sce.compat import save_checkpoint
from recbole_sce.training import resume
from recbole_sce.training.callbacks import last_state as checkpoints
from recbole_sce.training.callbacks.ema import WeightAverage
from recbole_sce.training.callbacks.schedule import LinearSchedule
from recbole_sce.utils import processes


class ResumableTrainer(Trainer):  # type: ignore[misc]
    """RecBole's trainer, with a last state after each epoch beside the best model, and the key ``resume``.

    :mod:`recbole_sce.training.callbacks.last_state` says what the two files hold,
    :mod:`recbole_sce.training.resume` which runs may go on.
    With ``ema_decay`` it validates and keeps an average of the weights
    (:mod:`recbole_sce.training.callbacks.ema`), which the model also has when ``fit`` is done.
    """

    #: A learning-rate scheduler of a derived class; its state is kept and restored.
    scheduler: Any = None
    #: The item table, if a RowAdam updates its rows one by one.
    table: Optional[nn.Parameter] = None
    #: The epoch that was trained last, from 0 on; -1 before the first.
    epoch: int = -1

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        best = checkpoints.new_best_path(self.checkpoint_dir, config["model"])
        self.saved_model_file = processes.from_first(best)
        self.average: Optional[WeightAverage] = None
        if model.settings.ema_decay is not None:
            self.average = WeightAverage(model.parameters(), model.settings.ema_decay, self.table)
        self._schedule: Optional[LinearSchedule] = None
        if model.settings.learning_rate_schedule == "linear":
            self._schedule = LinearSchedule(self.optimizer, self.epochs)
        self._continuation: Optional[resume.Continuation] = None
        self._last: Optional[checkpoints.LastState] = None  # of a fit that goes on and writes
        self._saved_epoch = -1
        self._loaders: list[Any] = []
        self._data = ""
        self._valid_result: Any = None

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Optional[Callable[[int, float], Any]] = None,
    ) -> tuple[Any, Any]:
        """Train the model (RecBole: ``Trainer.fit``), from where ``resume`` or ``resume_checkpoint`` says.

        A run that had ended returns its result and is not trained on. With ``ema_decay`` the model has the
        average of the weights when ``callback_fn`` is called, and when this returns; a further ``fit`` begins
        with it.

        Raises:
            CheckpointError: what is to be resumed cannot be.
            CheckpointWriteError: a checkpoint cannot be written.
        """
        self._loaders = [train_data, valid_data] if valid_data else [train_data]
        self._data = resume.data_digest(train_data)

        def after_validation(epoch: int, score: float) -> None:
            if callback_fn:
                with self._averaged():
                    callback_fn(epoch, score)
            self._save_last()

        try:
            self._begin(saved)
            self._saved_epoch = self.epoch
            ended = False
            if self._continuation is not None:
                self._continuation.enter(self._loaders, self._data)
                self._continuation = None
                ended = self.start_epoch >= self.epochs or self.cur_step > self.stopping_step
            if ended:
                self.logger.info("The run had ended: its result is returned, nothing is trained")
                self.eval_collector.data_collect(train_data)
                result = self.best_valid_score, self.best_valid_result
            else:
                with nullcontext() if self.average is None else self.average.following(self.optimizer):
                    result = super().fit(
                        train_data, valid_data, verbose, saved, show_progress, after_validation
                    )
                self._save_last()
        finally:
            if self._last is not None:
                self._last.release()
                self._last = None
        if self.average is not None:
            self.average.keep()
        return result

    def _begin(self, saved: bool) -> None:
        """Find out whether this is a new run, and make sure that its checkpoints can be written."""
        resumed = None if self._continuation is None else self._continuation.path
        if resumed is None and self.model.settings.resume is not None:
            found = resume.find_on_first(self.config)
            resumed = found.path
            for note in found.notes:
                self.logger.warning(f"resume: {note}")
            if resumed is None:
                self.logger.info("resume: training begins anew")
        if saved:
            self._last = checkpoints.LastState(resumed or checkpoints.last_path(self.saved_model_file))
            if processes.rank() == 0:
                checkpoints.check_writable(self._last.path.parent)
                if resumed is not None:
                    self._last.hold()
        if resumed is not None and self._continuation is None:
            self.resume_checkpoint(resumed)

    def resume_checkpoint(self, resume_file: Any) -> None:
        """Go on with the run of ``resume_file``, its best model or its last state, when ``fit`` is called.

        RecBole: ``Trainer.resume_checkpoint``; here the random states, and all else that has a part in the
        result, come back too.

        Raises:
            FileNotFoundError: it, or the other file of the run, does not exist.
            CheckpointError: it is damaged, or does not fit the model.
        """
        self._continuation = resume.load(self, resume_file)
        self.logger.info(
            f"Resuming from {self._continuation.path}: {self.start_epoch} of {self.epochs} epochs are done"
        )

    def _train_epoch(
        self,
        train_data: Any,
        epoch_idx: int,
        loss_func: Optional[Callable[..., Any]] = None,
        show_progress: bool = False,
    ) -> Any:
        """Train an epoch (RecBole: ``Trainer._train_epoch``)."""
        self._save_last()  # of an epoch before that had no validation: fit calls nothing else behind it
        schedule = self._schedule
        with schedule.epoch(epoch_idx, len(train_data)) if schedule else nullcontext():
            total_loss = super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)
        self.epoch = epoch_idx
        return total_loss

    def _save_last(self) -> None:
        """Write the state after an epoch, once: all processes take part in it, the first writes."""
        last = self._last
        if last is None or self.epoch == self._saved_epoch:
            return
        self._saved_epoch = self.epoch
        state = resume.last_state(self, self._loaders, self._data)
        processes.by_first(lambda: last.write(state))

    def _averaged(self) -> AbstractContextManager[None]:
        """Let the model have, within, the weights that count: their average, if there is one."""
        return nullcontext() if self.average is None else self.average.in_place()

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> tuple[float, Any]:
        with self._averaged():
            score, self._valid_result = super()._valid_epoch(valid_data, show_progress)
        return score, self._valid_result

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Write the model as the best so far (RecBole: ``Trainer._save_checkpoint``), optimiser aside."""
        file = kwargs.pop("saved_model_file", self.saved_model_file)
        result = resume.plain_result(self._valid_result)
        with self._averaged():
            state = {**checkpoints.model_state(self, epoch), "best_valid_result": result}
            processes.by_first(lambda: save_checkpoint(state, file))
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {file}")
