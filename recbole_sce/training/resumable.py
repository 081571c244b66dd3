"""A trainer whose run can be cut off at any moment, and goes on as if it had not been."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from recbole.trainer import Trainer
from recbole.utils import set_color
from torch import nn

from recbole_sce.compat import save_checkpoint
from recbole_sce.training import resume
from recbole_sce.training.callbacks import last_state as checkpoints
from recbole_sce.training.callbacks.base import Callback, entered
from recbole_sce.training.callbacks.ema import AveragedWeights, WeightAverage
from recbole_sce.training.callbacks.schedule import LinearSchedule
from recbole_sce.utils import processes


class ResumableTrainer(Trainer):  # type: ignore[misc]
    """RecBole's trainer with callbacks, a last state after each epoch, and the key ``resume``.

    :mod:`recbole_sce.training.callbacks.last_state` says what the best model and the last state hold,
    :mod:`recbole_sce.training.resume` which runs may go on.
    With ``ema_decay`` it validates and keeps an average of the weights
    (:mod:`recbole_sce.training.callbacks.ema`), which the model also has when ``fit`` is done.

    Attributes:
        callbacks: what takes part in a training, entered in this order and left the other way round.
    """

    #: A learning-rate scheduler of a derived class; its state is kept and restored.
    scheduler: Any = None
    #: The item table, if a RowAdam updates its rows one by one.
    table: nn.Parameter | None = None
    #: The epoch that was trained last, from 0 on; -1 before the first.
    epoch: int = -1

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        best = checkpoints.new_best_path(self.checkpoint_dir, config["model"])
        self.saved_model_file = processes.from_first(best)
        self.average: WeightAverage | None = None
        self._last = _LastStates(self)
        self.callbacks: list[Callback] = [self._last]
        if model.settings.ema_decay is not None:
            self.average = WeightAverage(model.parameters(), model.settings.ema_decay, self.table)
            self.callbacks.append(AveragedWeights(self.average, self.optimizer))
        if model.settings.learning_rate_schedule == "linear":
            self.callbacks.append(LinearSchedule(self.optimizer, self.epochs))
        self._continuation: resume.Continuation | None = None
        self._valid_result: Any = None

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], Any] | None = None,
    ) -> tuple[Any, Any]:
        """Train the model (RecBole: ``Trainer.fit``), from where ``resume`` or ``resume_checkpoint`` says.

        A run that had ended returns its result and is not trained on. With ``ema_decay`` the model has the
        average of the weights when ``callback_fn`` is called, and when this returns; a further ``fit`` begins
        with it.

        Raises:
            CheckpointError: what is to be resumed cannot be.
            CheckpointWriteError: a checkpoint cannot be written.
        """
        loaders = [train_data, valid_data] if valid_data else [train_data]
        data = resume.data_digest(train_data)

        def after_validation(epoch: int, score: float) -> None:
            if callback_fn:
                with self._weights():
                    callback_fn(epoch, score)
            for callback in self.callbacks:
                callback.validated()

        with entered(callback.fit() for callback in self.callbacks):
            self._begin(saved)
            self._last.begin(loaders, data)
            ended = False
            if self._continuation is not None:
                self._continuation.enter(loaders, data)
                self._continuation = None
                ended = self.start_epoch >= self.epochs or self.cur_step > self.stopping_step
            if ended:
                self.logger.info("The run had ended: its result is returned, nothing is trained")
                self.eval_collector.data_collect(train_data)
                return self.best_valid_score, self.best_valid_result
            result: tuple[Any, Any] = super().fit(
                train_data, valid_data, verbose, saved, show_progress, after_validation
            )
            self._last.save()  # before the model has the average of its weights
            return result

    def _begin(self, saved: bool) -> None:
        """Find out whether this is a new run, and make sure that its checkpoints can be written."""
        resumed = None if self._continuation is None else self._continuation.path
        if resumed is None and self.model.settings.resume is not None:
            choice = resume.find_on_first(self.config)
            resumed = choice.path
            for note in choice.notes:
                self.logger.warning(f"resume: {note}")
            if resumed is None:
                self.logger.info("resume: training begins anew")
        if saved:
            self._last.open(resumed)
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
        loss_func: Callable[..., Any] | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Train an epoch (RecBole: ``Trainer._train_epoch``), callbacks around it."""
        calculate_loss = loss_func or self.model.calculate_loss
        with entered(callback.epoch(epoch_idx, len(train_data)) for callback in self.callbacks):
            for callback in self.callbacks:
                calculate_loss = callback.watched(calculate_loss)
            total_loss = super()._train_epoch(train_data, epoch_idx, calculate_loss, show_progress)
        self.epoch = epoch_idx
        return processes.mean(total_loss)

    def _weights(self) -> AbstractContextManager[None]:
        """Let the model have, within, the weights that count: their average, if there is one."""
        return entered(callback.weights() for callback in self.callbacks)

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> tuple[float, Any]:
        with self._weights():
            score, self._valid_result = super()._valid_epoch(valid_data, show_progress)
        return score, self._valid_result

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        """Write the model as the best so far (RecBole: ``Trainer._save_checkpoint``), optimiser aside."""
        file = kwargs.pop("saved_model_file", self.saved_model_file)
        result = resume.plain_result(self._valid_result)
        with self._weights():
            state = {**checkpoints.model_state(self, epoch), "best_valid_result": result}
            processes.by_first(lambda: save_checkpoint(state, file))
        if verbose:
            self.logger.info(set_color("Saving current", "blue") + f": {file}")


class _LastStates(Callback):
    """Writes the state after each epoch, once: all processes take part in it, the first writes."""

    def __init__(self, trainer: ResumableTrainer) -> None:
        self._trainer = trainer
        self._file: checkpoints.LastState | None = None  # of a fit that writes
        self._saved_epoch = -1
        self._loaders: Sequence[Any] = ()
        self._data = ""

    def begin(self, loaders: Sequence[Any], data: str) -> None:
        """Take note of what is trained on; what is resumed is written already."""
        self._loaders, self._data, self._saved_epoch = loaders, data, self._trainer.epoch

    def open(self, resumed: Path | None) -> None:
        """Make sure that states can be written: over the one that is resumed, or beside the best model."""
        best = self._trainer.saved_model_file
        self._file = checkpoints.LastState(resumed or checkpoints.last_path(best))
        if processes.rank() == 0:
            checkpoints.check_writable(self._file.path.parent)
            if resumed is not None:
                self._file.hold()

    @contextmanager
    def fit(self) -> Iterator[None]:
        """Let others have the file when training has ended, however it ends."""
        try:
            yield
        finally:
            if self._file is not None:
                self._file.release()
                self._file = None

    @contextmanager
    def epoch(self, epoch: int, n_steps: int) -> Iterator[None]:
        """Write the state after an epoch before that had no validation: RecBole calls nothing else then."""
        self.save()
        yield

    def validated(self) -> None:
        """Write the state after the epoch that was validated."""
        self.save()

    def save(self) -> None:
        """Write the state of the trainer, unless that of its epoch is written."""
        file = self._file
        if file is None or self._trainer.epoch == self._saved_epoch:
            return
        self._saved_epoch = self._trainer.epoch
        state = resume.last_state(self._trainer, self._loaders, self._data)
        processes.by_first(lambda: file.write(state))
