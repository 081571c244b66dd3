"""RecBole's own models, from quick start to recommendations of a checkpoint in a fresh process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from recbole.quick_start import load_data_and_model, objective_function, run_recbole
from recbole.trainer import HyperTuning, Trainer
from recbole.utils.case_study import full_sort_topk

pytestmark = pytest.mark.slow

MODELS = ["SASRec", "GRU4Rec", "BERT4Rec", "Pop", "BPR", "LightGCN"]
Tiny = Mapping[str, object]


def settings_of(model: str, tiny: Tiny) -> dict[str, Any]:
    sequential = model in ("SASRec", "GRU4Rec", "BERT4Rec", "SASRecF", "S3Rec")
    small = {**tiny, "hidden_size": 16, "inner_size": 16, "embedding_size": 16, "n_layers": 1}
    return {**small, "train_neg_sample_args": None} if sequential else small


def newest(model: str) -> str:
    return str(max(Path("saved").glob(f"{model}-*.pth"), key=lambda path: path.stat().st_mtime_ns))


def test_every_model_runs_and_recommends_from_its_checkpoint_in_a_fresh_process(
    tiny_dataset: Tiny, python: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    files, expected = {}, {}
    for model in MODELS:
        result = run_recbole(model=model, dataset="tiny", config_dict=settings_of(model, tiny_dataset))
        assert 0 < result["test_result"]["ndcg@10"] < 1
        files[model] = newest(model)
        config, trained, _, _, _, test_data = load_data_and_model(files[model])
        assert config["model"] == model
        expected[model] = full_sort_topk([1, 2, 3], trained, test_data, k=5)[1].tolist()
    run = python(
        "import json, recbole_sce\n"
        "from recbole.quick_start import load_data_and_model\n"
        "from recbole.utils.case_study import full_sort_topk\n"
        "recommended = {}\n"
        f"for model, file in {files!r}.items():\n"
        "    loaded = load_data_and_model(file)\n"
        "    recommended[model] = full_sort_topk([1, 2, 3], loaded[1], loaded[5], k=5)[1].tolist()\n"
        "print(json.dumps(recommended))\n"
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == expected


def test_the_best_checkpoint_is_what_is_evaluated(tiny_dataset: Tiny) -> None:
    settings = {**settings_of("BPR", tiny_dataset), "epochs": 4, "learning_rate": 0.1}
    result = run_recbole(model="BPR", dataset="tiny", config_dict=settings)
    config, model, _, _, valid_data, _ = load_data_and_model(newest("BPR"))
    assert Trainer(config, model).evaluate(valid_data, load_best_model=False) == result["best_valid_result"]


@pytest.mark.parametrize("algo", ["exhaustive", "random", "bayes"])
def test_tuning_trains_and_plots(tiny_dataset: Tiny, algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webbrowser.open", lambda *args, **kwargs: False)
    rates = [0.01, 0.001]
    fixed = Path("fixed.yaml")
    fixed.write_text(json.dumps({**settings_of("BPR", tiny_dataset), "model": "BPR", "dataset": "tiny"}))
    tuning = HyperTuning(
        objective_function,
        params_dict={"choice": {"learning_rate": rates}},
        fixed_config_file_list=[str(fixed)],
        algo=algo,
        max_evals=2,
        display_file="trials.html",
    )
    tuning.run()
    assert tuning.best_params["learning_rate"] in rates
    assert tuning.best_score == max(tuning.score_list)
    assert Path("trials.html").stat().st_size > 0


def test_a_model_with_item_features_keeps_its_feature_layer(tiny_dataset: Tiny) -> None:
    data = Path(str(tiny_dataset["data_path"])) / "tiny" / "tiny.item"
    items = [f"i{item}\t{item % 3}\tt{item % 2} t{item % 5}\n" for item in range(40)]
    data.write_text("item_id:token\tkind:token\ttags:token_seq\n" + "".join(items))
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "kind", "tags"]}
    settings = {
        **settings_of("SASRecF", tiny_dataset),
        "load_col": columns,
        "selected_features": ["kind", "tags"],
    }
    result = run_recbole(model="SASRecF", dataset="tiny", config_dict=settings)
    assert result["test_result"]["ndcg@10"] > 0
    config, model, _, _, valid_data, _ = load_data_and_model(newest("SASRecF"))
    assert Trainer(config, model).evaluate(valid_data, load_best_model=False) == result["best_valid_result"]


def test_s3rec_is_fine_tuned_from_its_pretraining(tiny_dataset: Tiny) -> None:
    data = Path(str(tiny_dataset["data_path"])) / "tiny" / "tiny.item"
    items = [f"i{item}\tt{item % 2} t{item % 5}\n" for item in range(40)]
    data.write_text("item_id:token\tclass:token_seq\n" + "".join(items))
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}
    settings = {**settings_of("S3Rec", tiny_dataset), "load_col": columns, "item_attribute": "class"}
    pretraining = {**settings, "train_stage": "pretrain", "pretrain_epochs": 1, "save_step": 1, "epochs": 1}
    run_recbole(model="S3Rec", dataset="tiny", config_dict=pretraining, saved=False)
    tuning = {**settings, "train_stage": "finetune", "pre_model_path": "saved/S3Rec-tiny-1.pth"}
    result = run_recbole(model="S3Rec", dataset="tiny", config_dict=tuning)
    assert result["test_result"]["ndcg@10"] > 0
