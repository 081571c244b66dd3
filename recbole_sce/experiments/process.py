"""One training and its test, measured, in a process of its own.

``python -m recbole_sce.experiments.process spec.json result.json`` runs what :class:`RunSpec` says, in the
current folder, and writes one record. :func:`run_in_process` starts that and waits for it: the peak memory
is then the run's own, and a run that dies takes nothing with it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from recbole_sce.experiments.spec import RunSpec
from recbole_sce.utils.arguments import recbole_sees
from recbole_sce.utils.files import write_json

Progress = Callable[[dict[str, Any]], None]

#: How often a waiting process looks for news, in seconds.
_POLL = 0.1


def execute(
    spec: RunSpec, progress: Progress = lambda event: None
) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """Train and test as ``spec`` says, in this process and the current folder.

    Args:
        spec: what to run.
        progress: called with ``{"stage": ...}`` as each stage begins (data, training, test) and with
            ``{"epoch", "epochs", "score", "seconds"}`` after each validation.

    Returns:
        The record (metrics, curve, seconds, memory in MiB, parameters, recipe and settings that the data
        decided, data, machine), and the values of each test user by metric, with the
        users' ids under ``users``.
    """
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_logger, init_seed

    from recbole_sce.experiments import measure
    from recbole_sce.settings.recipes import recipe_of, undecided_keys
    from recbole_sce.utils.memory import peak_device_mib, peak_resident_mib, resident_mib, restart_peak

    started = time.perf_counter()
    with recbole_sees({}):
        config = Config(spec.model, spec.dataset, list(spec.config_files), dict(spec.settings))
    by_data = undecided_keys(config)
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)

    progress({"stage": "data"})
    data_started = time.perf_counter()
    dataset = create_dataset(config)
    train_data, valid_data, test_data = data_preparation(config, dataset)
    data_seconds = time.perf_counter() - data_started

    progress({"stage": "training"})
    device = torch.device(config["device"])
    peak_before, resident_before = peak_resident_mib(), resident_mib()
    restart_peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, train_data.dataset).to(device)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    epochs = int(config["epochs"])

    def tell(entry: Mapping[str, Any]) -> None:
        seconds = entry["training_seconds"]
        progress({"epoch": entry["epoch"], "epochs": epochs, "score": entry["score"], "seconds": seconds})

    recorder = measure.EpochRecorder(trainer, tell)
    _, best_valid = trainer.fit(train_data, valid_data, saved=True, show_progress=False)
    resident_training = peak_resident_mib()

    progress({"stage": "test"})
    test_started = time.perf_counter()
    with measure.row_values() as values:
        test = trainer.evaluate(test_data, load_best_model=True, show_progress=False)
    test_seconds = time.perf_counter() - test_started
    per_user = measure.mean_by_user(measure.users_of_rows(test_data), values)

    best = recorder.best(config["valid_metric_bigger"])
    record = {
        "status": "done",
        "metrics": {
            "test": {name: float(value) for name, value in test.items()},
            "valid": {name: float(value) for name, value in (best_valid or {}).items()},
        },
        "valid_metric": str(config["valid_metric"]),
        "valid_metric_bigger": bool(config["valid_metric_bigger"]),
        "best_valid_score": best["score"] if best else None,
        "epochs": recorder.epochs,
        "epochs_allowed": epochs,
        "best_epoch": best["epoch"] if best else None,
        "curve": recorder.curve,
        "seconds": {
            "data": data_seconds,
            "training": recorder.training_seconds,
            "training_cpu": recorder.training_cpu_seconds,
            "epoch": recorder.training_seconds / max(recorder.epochs, 1),
            "to_best": best["training_seconds"] if best else None,
            "validation": recorder.validation_seconds,
            "test": test_seconds,
            "whole": time.perf_counter() - started,
        },
        "memory_mib": {
            "resident": max(peak_before, peak_resident_mib()),
            "resident_before_training": resident_before,
            "resident_training": resident_training,
            "device": peak_device_mib(device),
        },
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "loss_type": _loss_type(config, model),
        "recipe": recipe_of(config),
        "chosen_settings": {key: config[key] for key in sorted(by_data)},
        "device": str(device),
        "data": {
            "users": int(dataset.user_num - 1),
            "items": int(dataset.item_num - 1),
            "test_users": len(per_user["users"]),
        },
        "machine": measure.machine(),
    }
    return record, per_user


def run_in_process(spec: RunSpec, folder: Path, progress: Progress = lambda event: None) -> dict[str, Any]:
    """Run ``spec`` in a process of its own, with ``folder`` as its working folder, and return its record.

    The process ends when this one does, however that ends. What it prints goes to ``folder/output.txt``;
    the values of each test user to ``folder/users.npz``. A run that fails returns a record with the status
    ``failed`` and an ``error``; it does not raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec_file, result_file, news_file = (folder / name for name in ("spec.json", "result.json", "news.jsonl"))
    for old in (result_file, news_file):
        old.unlink(missing_ok=True)
    write_json(spec_file, spec.to_json())
    command = [sys.executable, "-m", "recbole_sce.experiments.process"]
    command += [str(path.absolute()) for path in (spec_file, result_file, news_file)]
    started, heard = time.perf_counter(), 0
    with (
        open(folder / "output.txt", "wb") as output,
        subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=output, stderr=output) as process,
    ):
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL)
                heard = _tell(news_file, heard, progress)
        finally:
            process.kill()
    if result_file.exists():
        record: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
        return record
    return {
        "status": "failed",
        "error": _death(process.returncode, folder / "output.txt"),
        "seconds": {"whole": time.perf_counter() - started},
    }


def failure(error: BaseException) -> dict[str, Any]:
    """Return the record of a run that ended in ``error``."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return {
        "status": "failed",
        "error": f"{type(error).__name__}: {' '.join(lines)}"[:2000],
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }


def _tell(news_file: Path, heard: int, progress: Progress) -> int:
    """Pass on the news from the byte ``heard`` on; return up to where they were complete."""
    with suppress(FileNotFoundError), open(news_file, "rb") as file:
        file.seek(heard)
        for line in file:
            if not line.endswith(b"\n"):
                break
            heard += len(line)
            progress(json.loads(line))
    return heard


def _death(code: int, output: Path) -> str:
    """Word why a process left no record."""
    text = output.read_text(encoding="utf-8", errors="replace")
    last = [line.strip() for line in text.splitlines() if line.strip()]
    last_line = f"; its last line: {last[-1][:500]}" if last else ""
    if code < 0:
        hint = " (often the system's answer to a lack of memory)" if -code == signal.SIGKILL else ""
        return f"the process was ended by {signal.Signals(-code).name}{hint}{last_line}"
    return f"the process ended with exit code {code} and no result{last_line}"


def _loss_type(config: Any, model: Any) -> Any:
    """Return the name of the loss that the model was trained with, what ``auto`` chose included."""
    from recbole_sce.loss import display_name
    from recbole_sce.model import SCEMixin

    if isinstance(model, SCEMixin):
        return display_name(model.loss_type, model.settings.complete_softmax)
    return config["loss_type"]  # None where there is none


def _end_with_parent() -> None:
    """End this process as soon as the one that started it has gone: its end of our stdin closes then."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(spec_file: str, result_file: str, news_file: str) -> None:
    """Run ``spec_file``; write ``result_file`` and ``users.npz``, and ``news_file`` line by line."""
    _end_with_parent()
    spec = RunSpec.from_json(json.loads(Path(spec_file).read_text(encoding="utf-8")))
    with open(news_file, "a", encoding="utf-8", buffering=1) as news:
        try:
            sys.path += [path for path in spec.paths if path not in sys.path]
            for module in spec.modules:  # which make this process know the model
                importlib.import_module(module)
            record, per_user = execute(spec, lambda event: print(json.dumps(event), file=news))
            np.savez_compressed("users.npz", **per_user)
        except Exception as error:
            traceback.print_exc()
            record = failure(error)
    write_json(Path(result_file), record)


if __name__ == "__main__":
    main(*sys.argv[1:])
