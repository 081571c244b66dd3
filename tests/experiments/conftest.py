"""A comparison made by hand: no training, known figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_sce.experiments.comparison import Comparison, run_file

USERS = np.asarray([f"u{number}" for number in range(40)])


def make_record(
    label: str, seed: int, ndcg: float, seconds: float = 10.0, resident: float = 600.0, **more: Any
) -> dict[str, Any]:
    test = {"ndcg@10": ndcg, "hit@10": 2 * ndcg}
    curve = [
        {
            "epoch": epoch,
            "training_seconds": seconds * epoch / 3,
            "validation_seconds": 0.1 * epoch,
            "train_loss": 5.0 / epoch,
            "score": ndcg * epoch / 3,
            "valid": {"ndcg@10": ndcg * epoch / 3},
        }
        for epoch in (1, 2, 3)
    ]
    return {
        "label": label,
        "model": label.split(":")[0],
        "seed": seed,
        "status": "done",
        "metrics": {"test": test, "valid": test},
        "valid_metric": "NDCG@10",
        "valid_metric_bigger": True,
        "best_valid_score": ndcg,
        "epochs": 3,
        "best_epoch": 3,
        "curve": curve,
        "seconds": {"training": seconds, "epoch": seconds / 3, "to_best": seconds, "whole": seconds + 5},
        "memory_mib": {"resident": resident, "resident_before_training": 500.0, "device": None},
        "parameters": 1234,
        "loss_type": "SCE",
        "data": {"users": 40, "items": 30, "test_users": 40},
        "machine": {"processor": "a processor", "torch": "2", "gpu": None},
        "spec": {"config_files": {}, "settings": {"epochs": 3, "seed": seed}},
        "package_settings": {},
        "chosen_settings": {},
        **more,
    }


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Two models with two seeds each, and one that failed: SASRecSCE is better for nearly all users."""
    rng = np.random.default_rng(0)
    (tmp_path / "runs").mkdir()
    base = rng.random(len(USERS))
    records = []
    for label, shift, seconds in (("SASRecSCE", 0.2, 10.0), ("Pop & Co_1", 0.0, 0.5)):
        for seed in (1, 2):
            values = base + shift + 0.05 * rng.standard_normal(len(USERS))
            records.append(make_record(label, seed, float(values.mean()), seconds, 600 + 50 * shift + seed))
            with open(run_file(tmp_path, label, seed, "npz"), "wb") as file:
                np.savez(file, users=USERS, **{"ndcg@10": values, "hit@10": 2 * values})
    failed = {
        "label": "Broken",
        "model": "Broken",
        "seed": 1,
        "status": "failed",
        "error": "ValueError: <no>",
    }
    failed["spec"] = {"config_files": {}, "settings": {}}
    return Comparison("tiny", [*records, failed], tmp_path, {"topk": [10]})
