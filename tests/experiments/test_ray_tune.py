from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recbole_sce.experiments import ExperimentError, objective_function, tune
from recbole_sce.experiments.ray_tune import run_trials
from recbole_sce.experiments.spec import RunSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra recbole_sce[ray]"),
    pytest.mark.skipif(importlib.util.find_spec("hyperopt") is None, reason="needs recbole_sce[hyperopt]"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes with one CPU each, on this machine."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes.address
    nodes.shutdown()


def test_two_workers_run_four_trials_and_a_search_goes_on(
    cluster: str, tiny_dataset: dict[str, Any], tmp_path: Path
) -> None:
    """Two more are impossible; the journal is as long as if Hyperopt had made it, who goes on."""
    space = tmp_path / "space.hyper"
    space.write_text("learning_rate choice [0.001,0.01]\nn_heads choice [1,2,3]\n")
    kept: list[int] = []
    given: dict[str, Any] = {"params_file": space, "settings": tiny_dataset, "out": tmp_path / "out"}
    tuning = tune(
        *("SASRecSCE", "tiny"),
        **given,
        tool="Ray",
        address=cluster,
        listener=lambda event: kept.append(event.trial),
    )
    assert [trial["status"] for trial in tuning.trials] == ["done", "done", "failed"] * 2
    assert sorted(kept) == [0, 1, 2, 3, 4, 5]
    assert "not a multiple" in tuning.trials[2]["error"]
    assert [trial["params"]["learning_rate"] for trial in tuning.trials] == [0.001] * 3 + [0.01] * 3

    journal = tmp_path / "out" / "trials.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:1] + [line for line in lines[1:] if json.loads(line)["trial"] != 3]))
    again = tune("SASRecSCE", "tiny", **given, resume=True)
    assert [trial["trial"] for trial in again.trials] == [0, 1, 2, 3, 4, 5]
    assert again.trials[3]["score"] == pytest.approx(tuning.trials[3]["score"], abs=0.02)


def test_more_than_the_cluster_has_is_refused(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="a trial is to have 3 CPU, and Ray knows of 2"):
        run_trials({0: RunSpec("Pop", "tiny", {})}, print, folder=tmp_path, address=cluster, cpus_per_trial=3)


def test_recboles_objective_brings_the_plugin_to_the_workers(
    cluster: str, tiny_dataset: dict[str, Any], tmp_path: Path
) -> None:
    """In the way of RecBole's run_hyper.py, but without a GPU a trial."""
    import ray
    from ray import tune as ray_tune

    ray.init(address=cluster, log_to_driver=False)
    try:
        trials = ray_tune.run(
            ray_tune.with_parameters(objective_function),
            config={**tiny_dataset, "model": "SASRecSCE", "dataset": "tiny"},
            resources_per_trial={"cpu": 1},
            storage_path=str(tmp_path / "ray"),
            verbose=0,
        ).trials
    finally:
        ray.shutdown()
    assert 0 < trials[0].last_result["test_result"]["ndcg@10"] < 1
