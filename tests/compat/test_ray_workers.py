"""RecBole's objective in workers of Ray Tune."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recbole.quick_start import objective_function

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra recbole_sce[ray]"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes with one CPU each, on this machine."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    yield nodes.address
    nodes.shutdown()


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
