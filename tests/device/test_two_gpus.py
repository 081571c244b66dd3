"""Two processes, each on a simulated GPU of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from model.conftest import Zoo

from recbole_sce.compat.launch import _free_port

pytest.importorskip("simulated_cuda", exc_type=ImportError)

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("two_gpus.py")
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "SASRecSCE": ("SASRecSCE", {}),
    "rows": ("SASRecSCE", {"sparse_item_updates": True, "learner": "adam", "weight_decay": 0}),
    "GRU4RecSCE, average, half precision": ("GRU4RecSCE", {"ema_decay": 0.9, "enable_amp": True}),
    "BERT4RecSCE": ("BERT4RecSCE", {}),
}


@pytest.fixture(scope="module")
def results(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Return what the first of two processes found in the test, by the names of :data:`RUNS`."""
    folder = tmp_path_factory.mktemp("two-gpus")
    shared = {"epochs": 2, "gpu_id": "0,1", "process_timeout": 120, "train_batch_size": 32}
    shared |= {"metrics": ["Recall", "MRR", "GAUC"], "topk": [5, 10], "valid_metric": "MRR@10"}
    settings = {
        run: {**zoo.settings(name[: -len("SCE")]), "model": name, "port": str(_free_port()), **shared, **own}
        for run, (name, own) in RUNS.items()
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", str(SCRIPT), str(rank), "settings.json"],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs):
        assert process.returncode == 0, errors[-3000:]
    metrics: dict[str, dict[str, float]] = json.loads(outputs[0][0].splitlines()[-1])
    return metrics


@pytest.mark.parametrize("run", RUNS)
def test_two_processes_train_and_test_together(results: dict[str, dict[str, float]], run: str) -> None:
    assert 0 < results[run]["recall@10"] <= 1
