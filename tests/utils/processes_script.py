"""What tests start by torchrun: RecBole's ``run``, and a note of what each process saw of it.

``runs.json`` in the working directory holds the arguments of some runs, by name; the notes are
``<name>-<rank>.pt``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from recbole.trainer import Trainer

import recbole_sce  # noqa: F401
from recbole_sce.utils.patching import wrap


def main() -> None:
    notes: dict[str, Any] = {}

    @wrap(Trainer, "_train_epoch")
    def train_epoch(original: Any, self: Any, train_data: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, train_data, *args, **kwargs)
        notes.setdefault("samples", []).append(list(train_data.sampler))
        notes["batch_size"] = train_data.batch_size
        return loss

    @wrap(Trainer, "fit")
    def fit(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        notes["fit"] = original(self, *args, **kwargs)
        notes["losses"], notes["file"] = self.train_loss_dict, self.saved_model_file
        notes["trained"] = {name: value.clone() for name, value in self.model.state_dict().items()}
        return notes["fit"]

    @wrap(Trainer, "evaluate")
    def evaluate(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        notes.setdefault("results", []).append(result)
        notes["tested"] = {name: value.clone() for name, value in self.model.state_dict().items()}
        return result

    from recbole.quick_start import run

    for name, arguments in json.loads(Path("runs.json").read_text()).items():
        notes.clear()
        notes["returned"] = run(**arguments)
        torch.save(notes, f"{name}-{os.environ.get('RANK', 'alone')}.pt")


if __name__ == "__main__":
    main()
