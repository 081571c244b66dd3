"""Every model through RecBole's own entry points, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from recbole.quick_start import run_recbole

from recbole_sce.model import MODELS
from recbole_sce.training.callbacks.last_state import is_last

pytestmark = pytest.mark.slow

#: Users with 20 to 22 interactions and small encoders: RecBole's data set, cut to seconds.
QUICK = {
    "user_inter_num_interval": "[20,22]",
    "epochs": 1,
    "MAX_ITEM_LIST_LENGTH": 10,
    "bucket_size_y": 64,
    "n_outside": 256,  # with more, SCE would compute the exact softmax of ml-100k
    "embedding_size": 16,
    "hidden_size": 16,
    "inner_size": 32,
    "kg_embedding_size": 16,
    "block_num": 1,
    "show_progress": False,
    "topk": [10, 100],
    "train_neg_sample_args": None,
}

EVALUATE = """
import json, sys
import recbole_sce
from recbole.quick_start import load_data_and_model
from recbole.utils import get_trainer
sys.argv[1:], files = [], sys.argv[1:]
for file in files:
    config, model, dataset, train, valid, test = load_data_and_model(file)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    print("RESULT", json.dumps([config["model"], dict(trainer.evaluate(test, load_best_model=False))]))
"""


def run_code(code: str, folder: Path, *arguments: str) -> list[Any]:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # as in this process, see one_thread
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return results_in(run.stdout)


def results_in(text: str) -> list[Any]:
    return [json.loads(line[len("RESULT ") :]) for line in text.splitlines() if line.startswith("RESULT ")]


def test_one_epoch_and_the_checkpoint_in_a_fresh_process(
    zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    pretraining = {"train_stage": "pretrain", "pretrain_epochs": 1, "save_step": 1}
    run_recbole(model="S3Rec", dataset="ml-100k", config_dict={**QUICK, **pretraining})
    ml_100k = "ml-100k", {**QUICK, "pre_model_path": "saved/S3Rec-ml-100k-1.pth"}
    runs = {cls.__name__: ml_100k for cls in MODELS}
    for base in ("GRU4RecKG", "KSR"):  # RecBole carries no embeddings of the entities of ml-100k
        runs[f"{base}SCE"] = "tiny", {**zoo.settings(base), "epochs": 1}

    results, files = {}, []
    for name, (dataset, settings) in runs.items():
        settings = {**settings, "checkpoint_dir": f"saved/{name}"}
        results[name] = dict(run_recbole(model=name, dataset=dataset, config_dict=settings)["test_result"])
        (best,) = (path for path in Path("saved", name).glob("*.pth") if not is_last(path))
        files.append(str(best))
    assert all(max(result.values()) > 0 for result in results.values())
    assert dict(run_code(EVALUATE, tmp_path, *files)) == results


BASES = """
import json, sys
from recbole.quick_start import run_recbole
for model, settings in json.loads({settings!r}).items():
    result = run_recbole(model=model, dataset="tiny", config_dict=settings, saved=False)
    print("RESULT", json.dumps([model, result["best_valid_result"], result["test_result"]]))
"""


@pytest.mark.skipif(find_spec("ray") is None, reason="without ray RecBole alone cannot be imported")
def test_recboles_own_models_give_what_they_give_without_the_plugin(
    zoo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The times of this log are small: float32, by which RecBole alone sorts, tells them apart."""
    models = ("SASRec", "GRU4Rec", "NARM", "BERT4Rec", "SASRecF")
    settings = json.dumps(
        {model: {**zoo.settings(model), "epochs": 2, "train_batch_size": 128} for model in models}
    )
    code = BASES.format(settings=settings)
    alone = run_code(code, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    exec(code, {})
    with_plugin = results_in(capsys.readouterr().out)
    assert [model for model, _, _ in alone] == list(models)
    assert alone == with_plugin
