"""Draw settings at random, legal and illegal, and judge what a run makes of them.

    python tests/combinations.py --minutes 10 [--seed 1]

A case is a model, three to five settings, and the place that they are written in (``config_dict``, a file,
the command line). It holds if the run gives a result, and the same result again, or one paragraph that names
a key. A fault is cut down to the settings that it needs and reported once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import kinds
import numpy as np
import torch
import yaml
from logs import write_shop

import recbole_sce  # noqa: F401  (before any module of RecBole)

# isort: split
from recbole.quick_start import quick_start, run_recbole

from recbole_sce.model import MODELS

#: Seconds of the processor until a run counts as hanging.
PATIENCE = 60
#: How many characters a message may have that counts as one paragraph.
PARAGRAPH = 1200
SMALL: dict[str, Any] = {
    "epochs": 1,
    "MAX_ITEM_LIST_LENGTH": 8,
    "embedding_size": 8,
    "hidden_size": 8,
    "inner_size": 8,
    "kg_embedding_size": 8,
    "n_layers": 1,
    "n_heads": 1,
    "block_num": 1,
    "train_batch_size": 64,
    "train_neg_sample_args": None,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "show_progress": False,
    "state": "ERROR",
    "use_gpu": False,
}
FEATURES: dict[str, Any] = {
    "selected_features": ["kind"],
    "load_col": {
        "inter": ["user_id", "item_id", "timestamp"],
        "item": ["item_id", "kind", "price"],
    },
}
NEEDS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("FDSA", "GRU4RecF", "SASRecF"), FEATURES),
    **dict.fromkeys(("GRU4RecKG", "KSR"), kinds.GRAPH),
    "FEARec": {"n_layers": 2},
}
#: S3Rec needs a checkpoint of pre-training, which is no matter of settings.
OURS = sorted(cls.__name__ for cls in MODELS if cls.__name__ != "S3RecSCE")
#: RecBole's own models, whose messages are RecBole's: of them only the plugin's part is judged.
RECBOLES = ["SASRec", "GRU4Rec", "BERT4Rec", "FPMC", "BPR", "Pop"]

ANYTHING = [None, True, -1, 0, 2.5, "many", "", [], [1, 2], {}, {"a": 1}, float("nan"), float("inf")]
SWITCH = ([True, False], [None, "maybe", 2, [True], {}])
COUNT = ([1, 2, 3, 7], [0, -1, 2.5, None, True, "many", [], {"a": 1}, float("nan")])
COUNT_OR_AUTO = ([None, 1, 2, 3, 50], [0, -1, 2.5, True, "many", [], {"a": 1}, float("inf")])
RATE = ([0, 0.1, 0.5, 0.9], [1, -0.1, 7, None, True, "much", [0.1], {}, float("nan")])

#: Settings of recbole_sce and of RecBole: by key, values that have a meaning and values that have none.
TABLE: dict[str, tuple[list[Any], list[Any]]] = {
    # of recbole_sce
    "recipe": (["plain", "sparse", "dense", "auto"], ["rich", None, 3, "", [], True, "nowhere.yaml"]),
    "loss_type": (
        ["SCE", "auto", "CE", "CE-", "gBCE", "BCE"],
        ["sce", "BPR", None, 3, ["SCE"], "", {"SCE": 1}],
    ),
    "n_buckets": COUNT_OR_AUTO,
    "bucket_size_x": COUNT_OR_AUTO,
    "bucket_size_y": COUNT_OR_AUTO,
    "bucket_alpha": ([0.5, 1, 2.0, 8], [0, -2, None, "two", [2], True, float("nan"), float("inf")]),
    "mix_x": SWITCH,
    "complete_softmax": SWITCH,
    "n_outside": COUNT_OR_AUTO,
    "catalog_chunk": COUNT_OR_AUTO,
    "n_negatives": COUNT,
    "gbce_t": ([0, 0.5, 1], [-0.1, 1.1, None, "half", [0.5], True, float("nan")]),
    "train_positions": (["auto", "all", "last"], ["first", 1, ["all"], "", False]),
    "target_discount": ([0, 0.0, 0.3, 0.9], [1, -0.1, "0,4", [0.1], True, float("nan")]),
    "exclude_seen": SWITCH,
    "eval_memory_mb": COUNT_OR_AUTO,
    "sparse_item_updates": SWITCH,
    "learning_rate_schedule": (["constant", "linear"], ["cosine", 1, True, [], ""]),
    "ema_decay": ([None, 0.5, 0.999], [0, 1, -1, "slow", [0.9], True, float("nan")]),
    "resume": ([None, "auto"], ["nowhere.pth", 3, True, [], "", "."]),
    "temporal_holdout": ([None, 0.5, 0.9], [0, 1, -1, "late", [0.5], True, float("nan")]),
    "train_batch_positions": ([None, 64, 2048], [0, -1, 2.5, "many", [], True]),
    "process_timeout": ([1, 60.0], [0, -1, "long", [], True]),
    # of RecBole: training
    "seed": ([0, 1, 2020], [-1, "x", None, 1.5, [], 2**40]),
    "reproducibility": SWITCH,
    "epochs": ([0, 1, 2], [-1, 1.5, "ten", None, [], True]),
    "train_batch_size": ([1, 16, 2048], [0, -1, 2.5, None, "big", [], True]),
    "learner": (["adam", "sgd", "adagrad", "rmsprop", "adamw"], ["lion", None, 3, [], "sparse_adam"]),
    "learning_rate": ([0.001, 0.1, 0], [-1, "fast", None, [], True, float("nan"), float("inf")]),
    "weight_decay": ([0, 0.0, 0.01], [-1, "some", [], True, float("nan")]),
    "train_neg_sample_args": (
        [None],
        [{"distribution": "uniform", "sample_num": 1}, "uniform", 1, [], {}, {"distribution": "x"}],
    ),
    "eval_step": ([0, 1, 2], [-1, 1.5, None, "often", []]),
    "stopping_step": ([0, 1, 10], [-1, 1.5, None, "late", []]),
    "clip_grad_norm": (
        [None, {"max_norm": 5}, {"max_norm": 1, "norm_type": 2}],
        [5, "x", [], {"a": 1}, True],
    ),
    "loss_decimal_place": ([0, 4], [-1, 1.5, None, "x", []]),
    "enable_amp": SWITCH,
    "enable_scaler": SWITCH,
    "transform": (
        [None, "crop_itemseq", "mask_itemseq", "inverse_itemseq", "reorder_itemseq"],
        ["upside_down", 3, [], True],
    ),
    "shuffle": SWITCH,
    "worker": ([0], [-1, "x", None, 1.5, []]),
    # of RecBole: evaluation
    "eval_args": (
        [
            {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"RS": [8, 1, 1]}, "order": "TO", "group_by": "none", "mode": "full"},
            {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"LS": "valid_only"}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"LS": "test_only"}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni5"},
            {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": {"valid": "pop5", "test": "full"}},
            {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": {"valid": "full", "test": "uni5"}},
        ],
        [
            {"split": {"LS": "valid_and_test"}, "order": "RO", "group_by": "user", "mode": "full"},
            {"split": {"RS": [0.8, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"TS": [0.8, 0.2]}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"LS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"LS": "all"}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"XS": [1, 1, 1]}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"RS": [0, 0, 0]}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"RS": [-1, 1, 1]}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {}, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": None, "order": "TO", "group_by": "user", "mode": "full"},
            {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "shop", "mode": "full"},
            {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "labeled"},
            {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni"},
            {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "unimany"},
            {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": 5},
            {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": {"train": "full"}},
            {"mode": "uni20"},
            {"spilt": {"LS": "valid_and_test"}},
            "full",
            None,
            [],
        ],
    ),
    "repeatable": ([True], [False, None, "x"]),
    "metrics": (
        [
            ["Recall", "NDCG"],
            "NDCG",
            ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP"],
            ["NDCG", "ItemCoverage", "GiniIndex", "ShannonEntropy", "AveragePopularity", "TailPercentage"],
        ],
        [["Quality"], [], None, 3, ["AUC"], ["GAUC"], ["NDCG", "AUC"], ["LogLoss"], {"NDCG": 10}, [None]],
    ),
    "topk": (
        [1, 10, [1, 5, 10], [10, 1000]],
        [0, -1, [], None, "ten", [0, 5], 2.5, [10, 10], {"k": 1}, True],
    ),
    "valid_metric": (
        ["NDCG@10", "Recall@10", "ndcg@10"],
        ["NDCG", "NDCG@7", "Quality@10", None, 3, "", "GAUC@10", "@10", ["NDCG@10"], "NDCG@x"],
    ),
    "eval_batch_size": ([1, 16, 4096], [0, -1, 2.5, None, "big", []]),
    "metric_decimal_place": ([0, 4, 8], [-1, 1.5, None, "x", []]),
    # of RecBole: data
    "MAX_ITEM_LIST_LENGTH": ([1, 2, 8, 50], [0, -1, 2.5, None, "long", [], True]),
    "ITEM_LIST_LENGTH_FIELD": (["item_length", "n"], [None, 3, "item_id", ""]),
    "LIST_SUFFIX": (["_list", "_before"], [None, 3, ""]),
    "POSITION_FIELD": (["position_id"], [None, 3]),
    "USER_ID_FIELD": (["user_id"], ["visitor", None, 3, "item_id"]),
    "ITEM_ID_FIELD": (["item_id"], ["article", None, 3, "user_id"]),
    "TIME_FIELD": (["timestamp"], ["when", None, 3, "user_id"]),
    "load_col": (
        [
            {"inter": ["user_id", "item_id", "timestamp"]},
            {"inter": ["user_id", "item_id", "rating", "timestamp"]},
            {"inter": "*"},
            {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "kind", "price", "words"]},
            None,
        ],
        [
            {"inter": ["user_id", "item_id"]},
            {"inter": []},
            {"item": ["item_id"]},
            {"inter": ["user_id", "item_id", "timestamp", "colour"]},
            {"inter": ["user_id", "item_id", "timestamp"], "item": ["kind"]},
            {},
            "all",
            [],
        ],
    ),
    "unload_col": ([None, {"inter": ["rating"]}], [{"inter": ["item_id"]}, "rating", 3, {"item": 5}]),
    "unused_col": (
        [None, {"inter": ["rating"]}],
        [{"inter": ["item_id"]}, {"inter": ["colour"]}, "rating", 3],
    ),
    "field_separator": (["\t"], [",", "", None, 3, "\t\t"]),
    "seq_separator": ([" "], [",", None, 3, ""]),
    "encoding": (["utf-8"], ["latin-9x", 3, None]),
    "user_inter_num_interval": (
        ["[0,inf)", "[5,inf)", "(3,100]", [3, 100], None],
        ["[5", "5", "[a,b]", "[500,inf)", 5, [10, 5], "", "[9,2]"],
    ),
    "item_inter_num_interval": (
        ["[0,inf)", "[2,inf)", None],
        ["[5", "[500,inf)", 5, [10, 5], "[a,b]", "[9,2]"],
    ),
    "val_interval": (
        [None, {"timestamp": "[0,inf)"}, {"rating": "[2,5]"}],
        [{"rating": "2"}, {"colour": "[0,1]"}, "rating", {"rating": None}, {"item_id": "[0,1]"}],
    ),
    "rm_dup_inter": ([None, "first", "last"], ["middle", True, 3, []]),
    "filter_inter_by_user_or_item": SWITCH,
    "threshold": ([None, {"rating": 3}], [3, {"colour": 3}, {"rating": "x"}, "rating", {}]),
    "normalize_all": ([None, True, False], ["x", 3]),
    "normalize_field": ([None, ["rating"]], [["colour"], "rating", ["item_id"], 3, ["timestamp"]]),
    "numerical_features": ([[], ["rating"]], [["colour"], "rating", None, ["item_id"], ["timestamp"], 3]),
    "discretization": (
        [None],
        [{"rating": {"method": "XX"}}, "rating", {"colour": {"method": "LD"}}, {"rating": 5}, 3, []],
    ),
    "alias_of_item_id": ([None], [["kind"], "kind", ["colour"], 3, ["item_id"]]),
    "benchmark_filename": (
        [None, ["train", "valid", "test"]],
        [["train", "test"], ["train"], "train", 3, [], ["a", "b", "c"], ["train", "valid", "test", "more"]],
    ),
    "save_dataset": SWITCH,
    "save_dataloaders": SWITCH,
    "dataset_save_path": ([None], ["nowhere.pth", 3, [], True, "."]),
    "dataloaders_save_path": ([None], ["nowhere.pth", 3, [], True, "."]),
    "data_path": ([], ["nowhere", None, 3, []]),
    "checkpoint_dir": (["saved"], [None, 3, [], "/proc/nowhere"]),
    "state": (["INFO", "ERROR"], ["loud", None, 3, []]),
    "show_progress": SWITCH,
    "gpu_id": (["0", 0, ""], [None, [], "x", -1]),
    "use_gpu": ([False], [None, "x"]),
    "log_wandb": ([False], []),
    # of encoders
    "hidden_size": ([4, 8], [0, -1, 2.5, None, "big", [], True]),
    "embedding_size": ([4, 8], [0, -1, 2.5, None, "big", [], True]),
    "inner_size": ([4, 8], [0, -1, 2.5, None, "big", []]),
    "n_layers": ([1, 2], [0, -1, 1.5, None, "deep", []]),
    "num_layers": ([1, 2], [0, -1, 1.5, None, "deep", []]),
    "n_heads": ([1, 2], [0, -1, 3, 1.5, None, "many", []]),
    "hidden_dropout_prob": ([0, 0.5], [1.5, -0.1, "x", [], True, float("nan")]),
    "attn_dropout_prob": ([0, 0.5], [1.5, -0.1, "x", [], True, float("nan")]),
    "dropout_prob": ([0, 0.5], [1.5, -0.1, "x", None, [], float("nan")]),
    "hidden_act": (["gelu", "relu", "swish", "tanh", "sigmoid"], ["step", None, 3, []]),
    "layer_norm_eps": ([1e-12, 1e-5], [-1, None, "x", []]),
    "initializer_range": ([0.02], [-1, None, "x", [], float("nan")]),
    "selected_features": ([["kind"]], [["colour"], "kind", [], None, ["item_id"], 3]),
    "pooling_mode": (["mean", "max", "sum"], ["median", None, 3]),
    "mask_ratio": ([0.2, 0.5], [0, 1.5, -1, None, "x"]),
    "ft_ratio": ([0, 0.5, 1], [-1, 1.5, None, "x"]),
    "reg_weight": ([0, 0.01], [-1, None, "x", [], [0.1, 0.2, 0.3]]),
}
PLACES = ("config_dict", "config_dict", "file", "command line")


@dataclass(frozen=True)
class Case:
    """A run: its model, the settings that were drawn for it, and where they are written."""

    model: str
    settings: Mapping[str, Any]
    place: str
    illegal: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.model}, {self.place}: {dict(self.settings)}"


@dataclass(frozen=True)
class Outcome:
    """What came of a run: a result, or the exception with the place that it came from."""

    result: Any = None
    kind: str = ""
    message: str = ""
    origin: str = ""
    trace: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Fault:
    """A case that does not hold, why, and what was seen."""

    case: Case
    why: str
    outcome: Outcome

    @property
    def signature(self) -> tuple[str, ...]:
        """What faults of one cause have in common."""
        if not self.outcome.kind:
            return (self.why, *sorted(self.case.settings))
        return (self.why, self.outcome.kind, self.outcome.origin)

    def __str__(self) -> str:
        seen = f"{self.outcome.kind} in {self.outcome.origin}: {self.outcome.message[:400]!r}"
        return f"{self.why}\n  {self.case}\n  {seen if self.outcome.kind else self.outcome.result}"


def draw(rng: random.Random) -> Case:
    """Return a case; half of the cases have one illegal value, a tenth two, the others none."""
    model = rng.choice(RECBOLES) if rng.random() < 0.08 else rng.choice([*OURS, *["SASRecSCE"] * 12])
    keys = rng.sample(sorted(TABLE), rng.randint(3, 5))
    n_illegal = rng.choices([0, 1, 2], [4, 5, 1])[0]
    illegal = {key for key in keys[:n_illegal] if TABLE[key][1]}
    settings = {}
    for key in keys:
        legal, without_meaning = TABLE[key]
        values = [*without_meaning, *rng.sample(ANYTHING, 1)] if key in illegal else legal
        if values:
            settings[key] = rng.choice(values)
    return Case(model, settings, rng.choice(PLACES), frozenset(illegal & set(settings)))


class _Hanging(Exception):
    """A run takes longer than :data:`PATIENCE`."""


@contextlib.contextmanager
def _patience(seconds: int) -> Iterator[None]:
    def give_up(*_: Any) -> None:
        raise _Hanging(f"no result after {seconds} s")

    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run(case: Case, data: Path) -> Outcome:
    """Train and test as ``case`` says, in an empty folder, on the data set ``shop`` in ``data``."""
    needs = NEEDS.get(case.model.removesuffix("SCE"), {})
    fixed = {"data_path": str(data), **SMALL, **needs}
    own = dict(case.settings)
    files, arguments = [], ["combinations"]
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        if case.place == "file":
            Path("settings.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
            files, fixed, own = ["settings.yaml"], {k: v for k, v in fixed.items() if k not in own}, {}
        elif case.place == "command line":
            arguments += [f"--{key}={value}" for key, value in own.items()]
            own = {}
        try:
            with (
                _patience(PATIENCE),
                mock.patch.object(sys, "argv", arguments),
                mock.patch.object(quick_start, "get_environment"),  # waits for the load of the machine
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                result = run_recbole(
                    case.model, "shop", config_file_list=files or None, config_dict={**fixed, **own}
                )
        except (Exception, SystemExit) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            module = "/".join(Path(frame.filename).parts[-2:])
            return Outcome(
                None, type(error).__name__, str(error), f"{module}:{frame.name}", traceback.format_exc()
            )
        finally:
            os.chdir(here)
            logging.getLogger().handlers.clear()
    return Outcome(_plain(result))


def _plain(result: Any) -> Any:
    if isinstance(result, Mapping):
        return {key: _plain(value) for key, value in result.items()}
    return float(result) if isinstance(result, (float, np.floating)) else result


def judge(case: Case, data: Path) -> tuple[str, Fault | None]:
    """Return what came of ``case`` in one word, and its fault if it has one."""
    first = run(case, data)
    ours = case.model in OURS
    if first.kind:
        why = _why_no_message(case, first) if ours or first.origin.startswith("recbole_sce") else ""
        return ("failed", Fault(case, why, first)) if why else ("refused", None)
    if not _same(first.result, (second := run(case, data)).result):
        return "failed", Fault(case, f"another result the second time: {second}", first)
    return ("illegal value taken" if case.illegal and ours else "result"), None


def _why_no_message(case: Case, outcome: Outcome) -> str:
    """Return why an exception is no answer to the settings of ``case``; '' if it is."""
    if outcome.kind == "_Hanging":
        return "it hangs"
    kinds = ("ValueError", "SettingsError", "SavedDataError", "CheckpointError", "CheckpointWriteError")
    kinds += ("LayoutError", "FileNotFoundError", "OSError", "InputError", "RecboleSCEError")
    if outcome.kind not in kinds:
        return "an error of another layer"
    words = set(re.findall(r"\w+", outcome.message))
    if not words & (set(case.settings) | set(TABLE)):
        return "no key is named"
    if "\n\n" in outcome.message or len(outcome.message) > PARAGRAPH:
        return "more than one paragraph"
    return ""


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return bool(one == other)


def cut_down(fault: Fault, data: Path) -> Fault:
    """Return a fault with the same signature whose settings are all needed."""
    for key in list(fault.case.settings):
        fewer = {other: value for other, value in fault.case.settings.items() if other != key}
        _, simpler = judge(replace(fault.case, settings=fewer), data)
        same_error = fault.outcome.kind and simpler is not None and simpler.signature == fault.signature
        same_change = not fault.outcome.kind and simpler is not None and not simpler.outcome.kind
        if simpler is not None and (same_error or same_change):
            fault = simpler
    return fault


def search(
    seed: int,
    data: Path,
    seconds: float = math.inf,
    n_cases: float = math.inf,
    report: Callable[[str], Any] = lambda text: None,
) -> tuple[Counter[str], list[Fault], list[Case]]:
    """Try cases for ``seconds``, or ``n_cases`` of them.

    Returns:
        Outcomes counted; faults of different causes, each of which is also reported when it comes up; cases
        whose illegal value was taken.
    """
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    faults: dict[tuple[str, ...], Fault] = {}
    taken: list[Case] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end and sum(counts.values()) < n_cases:
        case = draw(rng)
        what, fault = judge(case, data)
        counts[what] += 1
        if what == "illegal value taken":
            taken.append(case)
        if fault is not None and fault.signature not in faults:
            faults[fault.signature] = fault = cut_down(fault, data)
            report(f"\n{sum(counts.values())}: {fault}\n")
    return counts, list(faults.values()), taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # A stream of its own: a case may close standard output (a number taken for a file).
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    with tempfile.TemporaryDirectory() as folder:
        write_shop(Path(folder), "shop")
        counts, faults, taken = search(arguments.seed, Path(folder), 60 * arguments.minutes, report=out.write)
    by_key = Counter(
        f"{key}={case.settings[key]!r}" for case in taken for key in case.illegal if len(case.illegal) == 1
    )
    print(f"\nillegal values taken: {dict(by_key.most_common())}", file=out)
    print(
        f"seed {arguments.seed}: {sum(counts.values())} cases: {dict(counts)}; {len(faults)} faults", file=out
    )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
