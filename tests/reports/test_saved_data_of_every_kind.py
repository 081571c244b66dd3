"""A saved data set of benchmark files is refused in the second run: "it names collections.defaultdict"."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kinds
import numpy as np
import pandas as pd
import pytest
import torch
from logs import write_shop
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with ``data`` and, in ``saved``, what RecBole alone saves of each kind."""
    if int(pd.__version__.split(".")[0]) > 2:
        pytest.skip("RecBole alone cannot make a data set with pandas 3")
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder / "data", "shop")
    writing = [sys.executable, "-W", "ignore", kinds.__file__, "data", "saved"]
    done = subprocess.run(writing, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["pytest"])
        yield folder


def batches(loaders: Any) -> list[Any]:
    """Return all that the loaders give, as plain lists of tensors."""
    init_seed(0, reproducibility=True)
    rows = []
    for loader in loaders:
        for batch in loader:
            interaction, *rest = batch if isinstance(batch, tuple) else (batch,)
            rows.append([*interaction.interaction.items(), *rest])
    return rows


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other):
            assert_same(left, right)
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_what_recbole_alone_saves_is_what_the_plugin_makes(
    kind: str, shop: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = kinds.KINDS[kind]

    def config_of(folder: str) -> Config:
        return Config(model, "shop", config_dict=kinds.settings_of(kind, "data", checkpoint_dir=folder))

    caplog.set_level(logging.INFO)
    anew, config = config_of("nothing"), config_of(f"saved/{kind}")
    init_seed(anew["seed"], reproducibility=True)
    made, read = create_dataset(anew), create_dataset(config)
    assert "Load filtered dataset from" in caplog.text
    assert read.config is config
    assert tokens_of(read) == tokens_of(made)
    for name in made.feat_name_list:
        pd.testing.assert_frame_equal(getattr(read, name), getattr(made, name))
    if kind in kinds.WITHOUT_LOADERS:
        return
    loaders = data_preparation(anew, made), data_preparation(config, read)
    assert "Load split dataloaders from" in caplog.text
    assert_same(*map(batches, loaders))


def tokens_of(dataset: Any) -> dict[str, list[str]]:
    return {field: list(tokens) for field, tokens in dataset.field2id_token.items()}
