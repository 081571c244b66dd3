"""Runs in processes of their own: what they return, and what is left when they, or we, are killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from recbole_sce.experiments import process
from recbole_sce.experiments.spec import RunSpec, make_spec


@pytest.fixture
def spec(tiny_dataset: dict[str, Any]) -> RunSpec:
    return make_spec("SASRecSCE", "tiny", {**tiny_dataset, "epochs": 10**6, "stopping_step": 10**6})[0]


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("kill -KILL $$", "was ended by SIGKILL (often the system's answer to a lack of memory)"),
        ("exit 3", "ended with exit code 3 and no result"),
    ],
)
def test_a_run_that_leaves_no_result_is_a_failed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, message: str
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\necho epoch 7\n{ending}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(interpreter))
    record = process.run_in_process(RunSpec("Pop", "tiny", {}), tmp_path / "run")
    assert record["status"] == "failed"
    assert message in record["error"]
    assert record["error"].endswith("its last line: epoch 7")


@pytest.mark.slow
def test_a_worker_does_not_outlive_the_process_that_started_it(spec: RunSpec, tmp_path: Path) -> None:
    file = tmp_path / "endless.json"
    file.write_text(json.dumps(spec.to_json()))
    script = (
        "import json, sys, pathlib\n"
        "from recbole_sce.experiments.process import run_in_process\n"
        "from recbole_sce.experiments.spec import RunSpec\n"
        f"spec = RunSpec.from_json(json.loads(pathlib.Path({str(file)!r}).read_text()))\n"
        f"run_in_process(spec, pathlib.Path({str(tmp_path / 'run')!r}))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    news = tmp_path / "run" / "news.jsonl"
    until = time.monotonic() + 120
    while not (news.exists() and "epoch" in news.read_text()):
        assert parent.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    (worker,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running()


@pytest.mark.slow
def test_a_model_of_the_users_own_is_known(tiny_dataset: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(
        "from recbole.model.sequential_recommender import SASRec\n"
        "from recbole_sce import SCEMixin, register_model\n"
        "@register_model\n"
        "class MySASRecSCE(SCEMixin, SASRec):\n"
        "    causal = True\n"
    )
    spec = RunSpec(
        "MySASRecSCE", "tiny", {**tiny_dataset, "seed": 1}, modules=("my_models",), paths=(str(tmp_path),)
    )
    record = process.run_in_process(spec, tmp_path / "run")
    assert record["status"] == "done", record
    assert record["seconds"]["to_best"] == record["seconds"]["training"] > 0
    assert record["memory_mib"]["resident"] >= record["memory_mib"]["resident_training"] > 100
    assert record["parameters"] > 1000
    assert record["data"] == {"users": 60, "items": 40, "test_users": 60}
    assert not (tmp_path / "saved").exists()
