"""Every model, from its data to its test result, on a simulated GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model.conftest import Zoo
from recbole.quick_start import run_recbole

from recbole_sce.data.transfer import move
from recbole_sce.evaluator.encoding import encode_rows
from recbole_sce.model import MODELS, SCEMixin

simulated_cuda = pytest.importorskip("simulated_cuda", exc_type=ImportError)

pytestmark = pytest.mark.slow

ON_GPU: dict[str, Any] = {
    "use_gpu": True,
    "gpu_id": "0",
    "epochs": 1,
    "topk": [5, 10],
    "metrics": ["Recall", "NDCG", "GAUC", "ItemCoverage"],
    "valid_metric": "NDCG@10",
}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {cls.__name__: (cls.__name__, {}) for cls in MODELS}
RUNS |= {
    "FEARecSCE, contrast": ("FEARecSCE", {"contrast": "us_x"}),
    "SASRecSCE, half precision": ("SASRecSCE", {"enable_amp": True, "enable_scaler": True}),
    "SASRecSCE, rows": ("SASRecSCE", {"sparse_item_updates": True, "learner": "adam", "weight_decay": 0}),
    "SASRecSCE, average": ("SASRecSCE", {"recipe": "sparse", "exclude_seen": True}),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_model_trains_and_is_tested(
    run: str, zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, settings = RUNS[run]
    given = {**zoo.settings(name[: -len("SCE")]), **ON_GPU, **settings}
    if name == "S3RecSCE":
        given |= {"train_stage": "finetune", "pre_model_path": zoo.pretrained()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    devices = set()
    calculate_loss = SCEMixin.calculate_loss

    def noting_device(self: Any, interaction: Any) -> Any:
        devices.update(each.device for each in (*self.parameters(), *interaction.interaction.values()))
        return calculate_loss(self, interaction)

    with simulated_cuda.SimulatedCuda():
        monkeypatch.setattr(SCEMixin, "calculate_loss", noting_device)
        result = run_recbole(model=name, dataset="tiny", config_dict=given)["test_result"]
    assert devices == {torch.device("cuda", 0)}
    assert 0 < result["recall@10"] <= 1


def waits_of(model: Any, rows: int, zoo: Zoo, name: str) -> tuple[int, int]:
    """Return how often a training step, and the encoding of a test batch, wait with so many rows."""
    train, test = (zoo.batch(name, part)[:rows] for part in ("train", "test"))
    assert len(train) == len(test) == rows
    with simulated_cuda.SimulatedCuda() as cuda:
        model.to("cuda")
        cuda.syncs.clear()
        model.train().calculate_loss(move(train, torch.device("cuda"))).backward()
        of_step = len(cuda.syncs)
        encode_rows(model.eval(), test, torch.device("cuda"))
        of_both = len(cuda.syncs)
        model.zero_grad()
        model.to("cpu")
    return of_step, of_both - of_step


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((cls.__name__, {}) for cls in MODELS),
        ("FEARecSCE", {"contrast": "us_x"}),
        ("HRMSCE", {"pooling_type_layer_1": "average", "pooling_type_layer_2": "average"}),
    ],
)
def test_more_rows_are_no_more_waits(name: str, settings: dict[str, Any], zoo: Zoo) -> None:
    with simulated_cuda.SimulatedCuda():
        model = zoo.model(name, **ON_GPU, **settings)
    few, many = (waits_of(model, rows, zoo, name) for rows in (8, 24))
    assert many == few
