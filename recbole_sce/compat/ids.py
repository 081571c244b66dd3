"""Patches that let ids of tokens travel with checkpoints, of RecBole's own models too."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from recbole_sce.safe_io import checkpoints
from recbole_sce.utils import processes
from recbole_sce.utils.patching import patch, wrap, wrap_everywhere

_LOADERS = "load the file by load_data_and_model or Recommender.load, which bring each token its row"


@patch(
    symptom="a checkpoint gives items the vectors of others once the lines of the data file have changed",
    cause="tokens are numbered as they first appear, and checkpoints hold no tokens",
    where="data/dataset/dataset.py: Dataset._remap; trainer/trainer.py: Trainer._save_checkpoint",
)
def ids_in_checkpoints() -> bool:
    """Keep which id was which token: without, a file whose lines are in another order is taken for the same.

    ``Dataset._remap`` numbers tokens as they first appear, and ``Trainer._save_checkpoint`` writes tables
    without these numbers, so that ``load_data_and_model`` gives items the vectors of others once the file has
    changed. Models note their ids when they are made, checkpoints hold them, and data sets made for a
    checkpoint take them over. ``Trainer.evaluate``, ``Trainer.resume_checkpoint`` and ``S3Rec.__init__`` load
    tables into a model that is there already: they refuse those of other ids. Applies always.
    """
    from recbole.data.dataset import Dataset
    from recbole.model import abstract_recommender
    from recbole.model.sequential_recommender import s3rec
    from recbole.quick_start import quick_start
    from recbole.trainer import trainer

    from recbole_sce.data import ids

    for kind in ("General", "Sequential", "Knowledge", "Context"):

        @wrap(getattr(abstract_recommender, f"{kind}Recommender"), "__init__")
        def init(original: Callable[..., Any], self: Any, config: Any, dataset: Any) -> None:
            original(self, config, dataset)
            ids.note(self, dataset)

    @wrap(Dataset, "_remap_ID_all")
    def remap_all(original: Callable[..., Any], self: Any) -> None:
        original(self)
        ids.adopt(self)

    saving: ContextVar[Any] = ContextVar("saving", default=None)

    for owner, name in (
        (trainer.Trainer, "_save_checkpoint"),
        (trainer.PretrainTrainer, "save_pretrained_model"),
    ):

        @wrap(owner, name)
        def save(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> None:
            token = saving.set(self.model)
            try:
                original(self, *args, **kwargs)
            finally:
                saving.reset(token)

    def save_with_ids(state: dict[str, Any], path: Any, **_: Any) -> None:
        known = None if saving.get() is None else ids.of_model(saving.get())
        checkpoints.save_checkpoint(state if known is None else {**state, ids.KEY: known.packed}, path)

    trainer.torch.save = save_with_ids

    @wrap_everywhere(quick_start, "load_data_and_model")
    def load_data_and_model(original: Callable[..., Any], model_file: Any) -> Any:
        with ids.adopted(checkpoints.safe_load(model_file, "cpu", mmap=True), model_file):
            return original(model_file)

    @wrap(trainer.Trainer, "evaluate")
    def evaluate(
        original: Callable[..., Any],
        self: Any,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        if eval_data and load_best_model and processes.rank() == 0:
            file = model_file or self.saved_model_file
            ids.check_same(file, ids.of_model(self.model), "model_file", _LOADERS)
        return original(self, eval_data, load_best_model, model_file, show_progress)

    @wrap(trainer.Trainer, "resume_checkpoint")
    def resume_checkpoint(original: Callable[..., Any], self: Any, resume_file: Any) -> None:
        ids.check_same(resume_file, ids.of_model(self.model), "resume_file", "train anew")
        original(self, resume_file)

    @wrap(s3rec.S3Rec, "__init__")
    def init_s3rec(original: Callable[..., Any], self: Any, config: Any, dataset: Any) -> None:
        if config["train_stage"] == "finetune":
            file, known = config["pre_model_path"], ids.TokenIds.of(dataset)
            ids.check_same(file, known, "pre_model_path", "pre-train on those of now")
        original(self, config, dataset)

    return True
