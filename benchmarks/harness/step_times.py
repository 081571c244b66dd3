"""One measurement of training steps or of an evaluation, in this process, with whatever checkout it imports.

:mod:`harness.steps` runs this file with the Python of each checkout. It uses of recbole_sce only what all
checkouts have: the import that registers models, and the name of the field of targets.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

#: Steps at the beginning that do not count: the first allocates the optimiser's state.
_WARM_UP = 3


class FirstBatches:
    """The first batches of a loader, which ``Trainer._train_epoch`` takes for all; None: all of them."""

    def __init__(self, loader: Any, n: int | None) -> None:
        self._loader, self._n = loader, n
        self.shuffle = False

    def __iter__(self) -> Any:
        return islice(iter(self._loader), self._n)

    def __len__(self) -> int:
        return len(self._loader) if self._n is None else min(self._n, len(self._loader))


def train(trainer: Any, loader: Any, steps: int | None, targets_of: Callable[[Any], int]) -> dict[str, Any]:
    """Train an epoch, or its first steps, and return the processor seconds and the targets of each step.

    A step lasts from the end of the optimiser's step before it to the end of its own: it includes the making
    of its batch, and all that the trainer does between two steps. Without ``steps`` the epoch's processor
    time is that of the whole call.
    """
    targets: list[int] = []
    ends: list[float] = []
    calculate_loss = trainer.model.calculate_loss

    def loss_of(interaction: Any) -> Any:
        targets.append(targets_of(interaction))
        return calculate_loss(interaction)

    handle = trainer.optimizer.register_step_post_hook(lambda *_: ends.append(time.process_time()))
    began = time.process_time()
    trainer._train_epoch(FirstBatches(loader, steps), 0, loss_func=loss_of)
    whole = time.process_time() - began
    handle.remove()
    seconds = [end - start for start, end in zip([began, *ends[:-1]], ends)]
    skipped = min(_WARM_UP, len(seconds) - 1)
    return {
        "step_seconds": seconds[skipped:],
        "step_targets": targets[skipped:],
        "epoch_seconds": whole if steps is None else None,
        "epoch_targets": sum(targets) if steps is None else None,
    }


def evaluate(trainer: Any, loader: Any) -> dict[str, Any]:
    """Rank all items for each test row; return the processor seconds of the second of two times."""
    trainer.evaluate(loader, load_best_model=False)
    began = time.process_time()
    trainer.evaluate(loader, load_best_model=False)
    return {"evaluation_seconds": time.process_time() - began, "rows": len(loader.dataset.inter_feat)}


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """Make data, model and trainer of a case, and measure what it says.

    Args:
        case: ``checkout``, the folder that recbole_sce must come from; ``dataset`` and ``settings`` of
            RecBole; ``kind``: steps, epoch or evaluation; ``steps``: how many, of the kind steps.

    Raises:
        ImportError: recbole_sce, or its property files, come from another folder.
    """
    import torch

    torch.set_num_threads(1)
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    import recbole_sce
    from recbole_sce.data.fields import target_list_field

    checkout = Path(case["checkout"]).resolve()
    for module in (recbole_sce, importlib.import_module("recbole_sce.properties")):
        folder = Path(next(iter(module.__path__))).resolve()
        if checkout not in folder.parents:
            raise ImportError(
                f"{module.__name__} must come from {checkout}, got {folder}; install that checkout into "
                f"{checkout / '.venv'}: make demo"
            )
    config = Config("SASRecSCE", case["dataset"], config_dict=case["settings"])
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, _, test_data = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model("SASRecSCE")(config, train_data._dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    field = target_list_field(config)
    shared = {
        "items": int(dataset.item_num) - 1,
        "users": int(dataset.user_num) - 1,
        "torch": torch.__version__,
    }
    if case["kind"] == "evaluation":
        return {**shared, **evaluate(trainer, test_data)}
    steps = case["steps"] if case["kind"] == "steps" else None
    times = train(trainer, train_data, steps, lambda batch: int((batch[field] > 0).sum()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**shared, **times, "peak_mib": peak}


def main(argument: str) -> None:
    """Measure a case, given as JSON, and print what it took on a line of its own, as JSON."""
    case = json.loads(argument)
    sys.argv = sys.argv[:1]  # RecBole reads settings there
    os.chdir(case["folder"])  # RecBole writes logs
    print(f"\n{json.dumps(measure(case))}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
