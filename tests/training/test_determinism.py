"""The same seed on the same machine gives the same result, twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from recbole.quick_start import run_recbole

from recbole_sce.training.callbacks.last_state import best_path

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "SCE": ("SASRecSCE", {"loss_type": "SCE"}),
    "CE": ("SASRecSCE", {"loss_type": "CE"}),
    "CE-, sparse updates": ("SASRecSCE", {"loss_type": "CE-", "sparse_item_updates": True}),
    "gBCE, last position": ("SASRecSCE", {"loss_type": "gBCE", "train_positions": "last"}),
    "masked items": ("BERT4RecSCE", {}),
    "sampled candidates": (
        "GRU4RecSCE",
        {"eval_args": {"mode": "uni10", "split": {"LS": "valid_and_test"}, "order": "TO"}},
    ),
}


def trained(case: str, given: dict[str, Any], seed: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    model, settings = CASES[case]
    result = run_recbole(
        model=model,
        dataset="tiny",
        config_dict={**given, "epochs": 2, "hidden_size": 16, "seed": seed, **settings},
    )
    (last,) = Path("saved").glob("*-last.pth")
    weights = torch.load(best_path(last), weights_only=False)["state_dict"]
    last.unlink()
    return result, weights


@pytest.mark.slow
@pytest.mark.parametrize(("case", "n_threads"), [*((case, 1) for case in CASES), ("SCE", 2)])
def test_same_seed_same_metrics_and_weights(
    case: str, n_threads: int, tiny_dataset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval=None, percpu=False: 0.0)  # it waits a second
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        (result, weights), (again, same), (_, other) = (
            trained(case, tiny_dataset, seed) for seed in (5, 5, 6)
        )
    finally:
        torch.set_num_threads(before)
    assert result == again
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert not all(torch.equal(weights[name], other[name]) for name in weights)
