"""What RecBole's public functions give under the plugin is what they give without it."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import contract
import pandas as pd
import pytest
from logs import write_shop

pytestmark = pytest.mark.slow

#: Kinds of ``kinds.py``, and the variant of the model that makes each.
VARIANTS = {"sequences": "SASRecSCE", "item and user features": "SASRecFSCE", "interactions": None}
#: Names of arguments that are a data set, a loader or a checkpoint.
TAKEN = {
    "dataset",
    "built_datasets",
    "dataloaders",
    "train_data",
    "valid_data",
    "eval_data",
    "test_data",
    "resume_file",
    "model_file",
    "checkpoint_file",
}
#: Public functions that ``contract.py`` does not call by name, and why.
ELSEWHERE: dict[str, str] = {}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if int(pd.__version__.split(".")[0]) > 2:
        pytest.skip("RecBole alone cannot make a data set with pandas 3")
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder / "data", "shop")
    return folder


@pytest.fixture(scope="module")
def ask(shop: Path) -> Any:
    variants = [f"{kind}={variant}" for kind, variant in VARIANTS.items() if variant]

    @cache
    def ask(side: str) -> dict[str, Any]:
        """Return what ``contract.py`` prints, by kind, in a process of its own."""
        asked = [*VARIANTS, *(variants if side == "plugin" else ())]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", contract.__file__, "data", side, *asked],
            cwd=shop,
            # RecBole alone reads its own checkpoints only so since torch 2.6.
            env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (line,) = (line for line in done.stdout.splitlines() if line.startswith("RESULT "))
        return json.loads(line.removeprefix("RESULT "))

    return ask


@pytest.mark.parametrize("kind", VARIANTS)
def test_recboles_own_models_give_the_same(kind: str, ask: Any) -> None:
    alone, with_plugin = ask("alone")[kind], ask("plugin")[kind]
    assert alone.keys() == with_plugin.keys()
    assert {name: value for name, value in alone.items() if with_plugin[name] != value} == {}


@pytest.mark.parametrize("kind", [kind for kind, variant in VARIANTS.items() if variant])
def test_variants_with_the_same_weights_give_the_same(kind: str, ask: Any) -> None:
    """But for two things: histories of columns that no model reads, which RecBole puts into every batch; and
    batches of training, which are of rows of like length and cut to the longest.
    """
    alone, variant = dict(ask("alone")[kind]), dict(ask("plugin")[f"{kind}={VARIANTS[kind]}"])
    counted = alone.pop("get_flops"), variant.pop("get_flops")
    assert counted[0] == pytest.approx(counted[1], rel=0.01)  # of the loss, which RecBole counts too
    assert len(variant) > 80
    for name in ("data_preparation", "load_split_dataloaders"):
        assert training_rows(alone[name][0]) == training_rows(variant[name][0])
        alone[name], variant[name] = alone[name][1:], variant[name][1:]
    assert {name for name in variant if not agrees(alone[name], variant[name])} == set()


def training_rows(batches: list[Any]) -> list[Any]:
    """Return user, history and target of each row, in an order of their own."""
    return sorted(
        (user, [item for item in history if item], target)
        for batch in batches
        for user, history, target in zip(batch["user_id"], batch["item_id_list"], batch["item_id"])
    )


def agrees(one: Any, other: Any) -> bool:
    """Return whether both are equal, floats to five figures, batches in the columns that ``other`` has."""
    if isinstance(one, dict) and "item_id_list" in one:
        needed = {"user_id", "item_id", "item_id_list", "item_length"}
        return needed <= other.keys() <= one.keys() and all(agrees(one[key], other[key]) for key in other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(agrees(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(agrees, one, other))
    if isinstance(one, float):
        return other == pytest.approx(one, rel=1e-5, abs=1e-6)
    return bool(one == other)


def public_functions() -> Iterator[tuple[str, Any]]:
    for module in ("quick_start.quick_start", "data.utils", "utils.utils", "utils.case_study"):
        for name, function in vars(importlib.import_module(f"recbole.{module}")).items():
            if inspect.isfunction(function) and not name.startswith("_"):
                yield name, function
    from recbole.trainer import Trainer

    for name, function in vars(Trainer).items():
        if inspect.isfunction(function) and name in ("fit", "evaluate", "resume_checkpoint"):
            yield name, function


def test_no_function_is_forgotten(ask: Any) -> None:
    called = {name.split(": ")[-1] for name in ask("alone")["sequences"]} | {"save_split_dataloaders"}
    taking = {
        name for name, function in public_functions() if TAKEN & set(inspect.signature(function).parameters)
    }
    assert {"create_samplers", "full_sort_topk", "load_data_and_model", "evaluate"} <= taking
    assert taking - called - ELSEWHERE.keys() == set()
