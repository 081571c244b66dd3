"""Runs on a simulated GPU that go on where they were cut off, and what their checkpoints serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model.conftest import Zoo
from recbole.quick_start import run_recbole

from recbole_sce.compat import safe_load
from recbole_sce.evaluator.topk import full_sort_scores, full_sort_topk
from recbole_sce.inference.recommender import Recommender
from recbole_sce.training import random_states
from recbole_sce.training.callbacks.last_state import is_last
from recbole_sce.training.trainer import SCETrainer

simulated_cuda = pytest.importorskip("simulated_cuda", exc_type=ImportError)
SimulatedCuda = simulated_cuda.SimulatedCuda

pytestmark = pytest.mark.slow

ROWS = {"sparse_item_updates": True, "learner": "adam", "weight_decay": 0}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "SASRecSCE": ("SASRecSCE", {}),
    "rows, average": ("SASRecSCE", {**ROWS, "ema_decay": 0.9, "exclude_seen": True}),
    "GRU4RecSCE, half precision": ("GRU4RecSCE", {"enable_amp": True, "enable_scaler": True}),
    "BERT4RecSCE": ("BERT4RecSCE", {}),
}


class CutOffError(Exception):
    """Ends a run."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    return tmp_path


def train(zoo: Zoo, run: str, folder: str, **settings: Any) -> dict[str, float]:
    """Train four epochs on a new device; return the test result."""
    name, own = RUNS[run]
    given = {**zoo.settings(name[: -len("SCE")]), "use_gpu": True, "gpu_id": "0", "epochs": 4}
    given |= {"valid_metric": "MRR@10", "checkpoint_dir": folder, **own, **settings}
    with SimulatedCuda():
        return dict(run_recbole(model=name, dataset="tiny", config_dict=given)["test_result"])


def cut_off_and_resume(zoo: Zoo, run: str, folder: str) -> dict[str, float]:
    """Train two epochs, then the other two in a run that resumes."""
    train_epoch = SCETrainer._train_epoch

    def cut(self: Any, data: Any, epoch: int, *arguments: Any, **more: Any) -> Any:
        if epoch == 2:
            self._last.save()
            raise CutOffError
        return train_epoch(self, data, epoch, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SCETrainer, "_train_epoch", cut)
        with pytest.raises(CutOffError):
            train(zoo, run, folder)
    return train(zoo, run, folder, resume="auto")


def last_weights(folder: str) -> dict[str, Any]:
    (path,) = (path for path in Path(folder).iterdir() if path.is_file() and is_last(path))
    weights: dict[str, Any] = safe_load(path, "cpu")["state_dict"]
    return weights


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("run", RUNS)
def test_a_run_that_is_cut_off_goes_on_to_the_bit(run: str, zoo: Zoo) -> None:
    assert train(zoo, run, "whole") == cut_off_and_resume(zoo, run, "cut")
    assert equal(last_weights("whole"), last_weights("cut"))


def test_the_random_state_of_the_device_has_a_part_in_it(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    train(zoo, "SASRecSCE", "whole")
    restore = random_states.restore
    monkeypatch.setattr(
        random_states, "restore", lambda states, loaders: restore({**states, "cuda": []}, loaders)
    )
    cut_off_and_resume(zoo, "SASRecSCE", "cut")
    assert not equal(last_weights("whole"), last_weights("cut"))


@pytest.fixture
def checkpoint(zoo: Zoo) -> Path:
    """Return the best model of a run on the device."""
    train(zoo, "SASRecSCE", "saved", epochs=1)
    (best,) = (path for path in Path("saved").glob("*.pth") if not is_last(path))
    return best


def test_a_model_of_the_device_recommends_on_each_device(checkpoint: Path) -> None:
    def lists(recommender: Recommender) -> list[list[str]]:
        users = recommender.users[:20]
        some = [list(top.rows()) for top in recommender.for_users(users, 5, exclude_seen=True)]
        some += [
            list(top.rows()) for top in recommender.for_histories([("a", ["i1", "i2"]), ("b", ["i5"])], 3)
        ]
        return [items for rows in some for _, items, _ in rows]

    expected = lists(Recommender.load(str(checkpoint)))
    with SimulatedCuda() as cuda:
        for device in (None, "cuda", "cuda:0", "cpu"):
            recommender = Recommender.load(str(checkpoint), device=device)
            assert recommender.device.type == (device or "cuda").split(":")[0]
            assert next(recommender.model.parameters()).device.type == recommender.device.type
            cuda.syncs.clear()
            assert lists(recommender) == expected
            assert len(cuda.syncs) <= 2 * 4, cuda.syncs  # two batches
            assert recommender.item_vectors()[1].shape[0] == 40
            assert len(recommender.hidden_states(recommender.users[:3])) == 3


def test_case_studies_run_on_it(checkpoint: Path) -> None:
    from recbole.quick_start import load_data_and_model

    with SimulatedCuda():
        _, model, _, _, _, test = load_data_and_model(str(checkpoint))
        users = test.dataset.inter_feat[test.dataset.uid_field][:7]
        _, items = full_sort_topk(users, model, test, 5)
        scores = full_sort_scores(users, model, test)
        assert scores.is_cuda
        assert torch.equal(scores.topk(5).indices.cpu(), items.cpu())
