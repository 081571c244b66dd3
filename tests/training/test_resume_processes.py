"""A run of two processes that goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from logs import write_log

from recbole_sce.bench.kills import unequal
from recbole_sce.compat import safe_load
from recbole_sce.training.checkpoints import last_path

SCRIPT = Path(__file__).parents[1] / "processes_script.py"


@pytest.mark.slow
def test_two_processes_end_as_if_they_had_not_stopped(tmp_path: Path) -> None:
    write_log(tmp_path / "data", "tiny")
    settings = {
        **{"data_path": "data", "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "use_gpu": False},
        **{"hidden_size": 16, "inner_size": 16, "n_layers": 1, "n_heads": 1, "MAX_ITEM_LIST_LENGTH": 10},
        **{"train_batch_size": 16, "show_progress": False, "state": "ERROR", "metric_decimal_place": 8},
    }
    changes: dict[str, dict[str, Any]] = {
        "whole": {"epochs": 3, "checkpoint_dir": "whole"},
        "part": {"epochs": 2, "checkpoint_dir": "parts"},
        "resumed": {"epochs": 3, "checkpoint_dir": "parts", "resume": "auto"},
    }
    runs = {
        name: {"model": "SASRecSCE", "dataset": "tiny", "config_dict": {**settings, **change}}
        for name, change in changes.items()
    }
    (tmp_path / "runs.json").write_text(json.dumps(runs))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    subprocess.run([*torchrun, str(SCRIPT)], cwd=tmp_path, env=environment, check=True, timeout=600)

    notes = {
        name: [torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=False) for rank in (0, 1)]
        for name in runs
    }
    assert [len(note["samples"]) for note in notes["resumed"]] == [1, 1]  # the third epoch alone
    assert len({note["file"] for name in ("part", "resumed") for note in notes[name]}) == 1
    for whole, resumed in zip(notes["whole"], notes["resumed"]):
        for key in ("trained", "tested", "losses", "fit"):
            assert not unequal(whole[key], resumed[key], key)
        assert resumed["results"][-1] == whole["results"][-1]
    assert len(list((tmp_path / "parts").iterdir())) == 2
    states = [
        safe_load(last_path(tmp_path / notes[name][0]["file"]))["training"] for name in ("whole", "resumed")
    ]
    assert len(states[0]["random"]) == 2
    assert unequal(states[0]["random"][0]["torch"], states[0]["random"][1]["torch"], "random")
    assert not unequal(*states, "training")
