"""Whole training steps and evaluation batches on a simulated GPU: how often the host waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import factory
import pytest
from logs import write_log

from recbole_sce.evaluator import ranking

simulated_cuda = pytest.importorskip("simulated_cuda", exc_type=ImportError)
SimulatedCuda = simulated_cuda.SimulatedCuda

#: What ends an epoch may read: weights that are no numbers, once.
END_OF_EPOCH = 1
ON_GPU = {"use_gpu": True, "gpu_id": "0", "train_neg_sample_args": None, "train_batch_size": 16}


ROWS = {"sparse_item_updates": True, "learner": "adam", "weight_decay": 0}


@pytest.fixture
def trainer(tiny_dataset: dict[str, Any], tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """Return ``make(**settings)`` -> trainer and loaders, of 1,000 items; to be called on the device."""
    write_log(tmp_path / "data", "wide", n_users=80, n_items=1000)

    def make(**settings: Any) -> SimpleNamespace:
        # Of so many items the sample is drawn, not shuffled.
        given = {**tiny_dataset, "n_outside": 16, **factory.SMALL, **ON_GPU, **settings}
        return factory.prepare_trainer("SASRecSCE", "wide", given)

    return make


def waits(cuda: Any) -> Counter[tuple[str, str]]:
    """Return what the host waited for, and where."""
    return Counter((sync.kind, sync.where) for sync in cuda.syncs)


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({"loss_type": "SCE", "recipe": "sparse"}, 6),
        ({"loss_type": "SCE", "recipe": "dense"}, 6),
        ({"loss_type": "SCE", "train_positions": "last"}, 6),
        ({"loss_type": "SCE", "complete_softmax": False, "target_discount": 0}, 4),
        ({"loss_type": "CE"}, 2),
        ({"loss_type": "CE-", "target_discount": 0}, 2),
        ({"loss_type": "SCE", **ROWS}, 6 + 2),
        ({"loss_type": "CE-", "target_discount": 0, **ROWS}, 2 + 2),
    ],
)
def test_a_training_step_waits_no_more_than_it_must(
    trainer: Callable[..., SimpleNamespace], settings: dict[str, Any], most: int
) -> None:
    with SimulatedCuda() as cuda:
        made = trainer(**settings)
        cuda.syncs.clear()
        made.trainer._train_epoch(made.train, 0)
        n_steps = len(made.train)
        assert n_steps > 2
        counts = waits(cuda)
        assert counts.total() <= most * n_steps + END_OF_EPOCH, counts
        # Copies are pinned and not waited for.
        assert not [kind for kind, _ in counts if kind.startswith("copy")], counts


@pytest.mark.parametrize(
    ("mode", "exclude_seen", "chunk"),
    [("full", False, None), ("full", True, None), ("full", True, 256), ("uni50", False, None)],
)
@pytest.mark.parametrize("metrics", [["NDCG"], ["NDCG", "GAUC", "ItemCoverage"]])
def test_an_evaluation_batch_waits_four_times_at_most(
    trainer: Callable[..., SimpleNamespace],
    mode: str,
    exclude_seen: bool,
    chunk: int | None,
    metrics: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if chunk:
        plan = ranking._plan
        monkeypatch.setattr(ranking, "_plan", lambda *given: plan(*given)._replace(items=chunk))
    with SimulatedCuda() as cuda:
        made = trainer(
            exclude_seen=exclude_seen,
            metrics=metrics,
            valid_metric="NDCG@10",
            eval_batch_size=16 if mode == "full" else 16 * 51,
            eval_args={"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": mode},
        )
        made.trainer.eval_collector.data_collect(made.train)
        cuda.syncs.clear()
        made.trainer.evaluate(made.valid, load_best_model=False)
        n_batches = len(made.valid)
        assert n_batches > 2
        assert len(cuda.syncs) <= 4 * n_batches, waits(cuda)
