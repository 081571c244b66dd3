"""Every kind of data set that RecBole makes of the log that ``logs.write_shop`` writes; without recbole_sce.

    python tests/kinds.py DATA_PATH FOLDER

writes each kind with its loaders to ``FOLDER/<kind>``, with RecBole alone.
"""

from __future__ import annotations

import sys
from typing import Any

INTER = ["user_id", "item_id", "rating", "timestamp"]
ITEM, USER = ["item_id", "kind", "price", "words"], ["user_id", "age", "town"]
#: Sequential models trained by cross-entropy draw no negatives.
CE: dict[str, Any] = {"train_neg_sample_args": None}
BENCHMARK: dict[str, Any] = {
    "benchmark_filename": ["train", "valid", "test"],
    "alias_of_item_id": ["item_id_list"],
    "load_col": {"inter": ["user_id", "item_id", "item_id_list"]},
}
GRAPH: dict[str, Any] = {
    "load_col": {
        "inter": INTER,
        "kg": ["head_id", "relation_id", "tail_id"],
        "link": ["item_id", "entity_id"],
        "ent": ["ent_id", "ent_vec"],
        "rel": ["rel_id", "rel_vec"],
    },
    "preload_weight": {"ent_id": "ent_vec", "rel_id": "rel_vec"},
    "additional_feat_suffix": ["ent", "rel"],
    "alias_of_entity_id": ["ent_id"],
    "alias_of_relation_id": ["rel_id"],
}
FEATURES: dict[str, Any] = {
    "selected_features": ["kind", "words"],
    "load_col": {"inter": INTER, "item": ITEM, "user": USER},
}
LABELED: dict[str, Any] = {
    "load_col": {"inter": INTER, "item": ITEM, "user": USER},
    "threshold": {"rating": 3},
    **CE,
    "eval_args": {"split": {"RS": [8, 1, 1]}, "mode": "labeled"},
    "metrics": ["AUC"],
    "valid_metric": "AUC",
}
TIMED = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}

#: A model that makes each kind, and its settings.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sequences": ("SASRec", CE),
    "sequences, sampled negatives": ("SASRec", {"loss_type": "BPR"}),
    "sequences, sampled candidates": ("GRU4Rec", {**CE, "eval_args": {**TIMED, "mode": "uni5"}}),
    "sequences, popular candidates": ("GRU4Rec", {**CE, "eval_args": {**TIMED, "mode": "pop5"}}),
    "masked sequences": ("BERT4Rec", CE),
    "benchmark files": ("SASRec", {**CE, **BENCHMARK}),
    "item and user features": ("SASRecF", {**CE, **FEATURES}),
    "knowledge graph of sequences": ("GRU4RecKG", {**CE, **GRAPH, "eval_args": {**TIMED, "mode": "full"}}),
    "sequences with labels": ("DIN", {"load_col": {"inter": INTER, "item": ["item_id", "kind"]}}),
    "negative sequences": ("DIEN", {"load_col": {"inter": INTER, "item": ["item_id", "kind"]}}),
    "pre-training": ("S3Rec", {**CE, **FEATURES, "item_attribute": "words"}),
    "interactions": ("BPR", {}),
    "repeated interactions": (
        "BPR",
        {"repeatable": True, "train_neg_sample_args": {"distribution": "popularity", "sample_num": 2}},
    ),
    "users": ("MultiVAE", CE),
    "labels": ("FM", LABELED),
    "buckets of numbers": (
        "DeepFM",
        {
            **LABELED,
            "numerical_features": ["price", "age"],
            "normalize_all": True,
            "discretization": {"price": {"method": "LD"}, "age": {"method": "ED", "bucket": 3}},
        },
    ),
    "knowledge graph": (
        "CFKG",
        {"load_col": {key: GRAPH["load_col"][key] for key in ("inter", "kg", "link")}, "kg_reverse_r": True},
    ),
}
#: RecBole cannot save their loaders.
WITHOUT_LOADERS = ("knowledge graph",)


def settings_of(kind: str, data_path: str, **settings: Any) -> dict[str, Any]:
    """Return the configuration of a kind."""
    own = KINDS[kind][1]
    common = {
        "data_path": data_path,
        "load_col": {"inter": INTER},
        "MAX_ITEM_LIST_LENGTH": 8,
        "epochs": 1,
        "train_batch_size": 64,
        "embedding_size": 8,
        "hidden_size": 8,
        "inner_size": 8,
        "n_layers": 1,
        "use_gpu": False,
        "state": "ERROR",
        "show_progress": False,
    }
    return {**common, **own, **settings}


def main(data_path: str, folder: str) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import init_seed

    sys.argv = sys.argv[:1]
    for kind, (model, _) in KINDS.items():
        saving = {
            "checkpoint_dir": f"{folder}/{kind}",
            "save_dataset": True,
            "save_dataloaders": kind not in WITHOUT_LOADERS,
        }
        config = Config(model, "shop", config_dict=settings_of(kind, data_path, **saving))
        init_seed(config["seed"], reproducibility=True)
        data_preparation(config, create_dataset(config))
    assert "recbole_sce" not in sys.modules


if __name__ == "__main__":
    main(*sys.argv[1:])
