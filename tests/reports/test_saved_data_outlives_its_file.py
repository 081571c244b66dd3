"""The file of interactions has changed, and the result is the old one: a saved data set is used again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from recbole.data.dataset import Dataset
from recbole.quick_start import load_data_and_model

from recbole_sce.compat import SavedDataError
from recbole_sce.data import sources

from .conftest import ROWS, Toy

SAMPLED: dict[str, Any] = {
    "train_neg_sample_args": {
        "distribution": "uniform",
        "sample_num": 1,
        "alpha": 1.0,
        "dynamic": False,
        "candidate_num": 0,
    }
}
Asked = Callable[[], bool]

MODELS: dict[str, dict[str, Any]] = {"SASRecSCE": {}, "SASRec": {}, "BPR": SAMPLED}


def rows_of(run: Any) -> int:
    return len(run.train.dataset.inter_feat)


@pytest.mark.parametrize("what", ["save_dataset", "save_dataloaders"])
@pytest.mark.parametrize("model", MODELS)
def test_changed_files_are_read_anew(toy: Toy, model: str, what: str, log_lines: Callable[[], str]) -> None:
    keys = MODELS[model]
    before = rows_of(toy.prepared(model, **keys, **{what: True}))
    assert rows_of(toy.prepared(model, **keys)) == before
    assert not log_lines()
    toy.write(ROWS[:120])
    half = rows_of(toy.prepared(model, **keys))
    assert half < before
    (line,) = log_lines().splitlines()
    assert "is left out, and its content is made anew: it was made of other files than there are now" in line
    assert rows_of(toy.prepared(model, **keys, **{what: True})) == half  # and is saved again
    lines = log_lines()
    assert rows_of(toy.prepared(model, **keys)) == half
    assert log_lines() == lines


@pytest.mark.parametrize("named", ["dataset_save_path", "dataloaders_save_path"])
def test_data_that_is_named(toy: Toy, named: str, log_lines: Callable[[], str]) -> None:
    toy.prepared(save_dataset=True, save_dataloaders=True)
    file = next(Path("saved").glob("toy-Indexed*" if named == "dataset_save_path" else "*dataloader.pth"))
    file.rename("kept.pth")
    for left in Path("saved").glob("toy-*"):
        left.unlink()
    whole = rows_of(toy.prepared(**{named: "kept.pth"}))
    toy.write(ROWS[:120])
    assert rows_of(toy.prepared(**{named: "kept.pth"})) < whole
    assert log_lines().startswith(f"{named}: kept.pth is left out, and its content is made anew: ")
    saving = re.search(rf"Set {named} to null and, once, (\w+) to True", log_lines())
    assert saving, "a warning that comes with each run says how it ends"
    assert rows_of(toy.prepared(**{saving[1]: True})) < whole
    assert list(Path("saved").glob(file.name))
    lines = log_lines()
    assert rows_of(toy.prepared()) < whole
    assert log_lines() == lines
    with pytest.raises(SavedDataError, match=f"{named} must be a file that fits .* MAX_ITEM_LIST_LENGTH"):
        toy.prepared(**{named: "kept.pth", "MAX_ITEM_LIST_LENGTH": 5})


@pytest.mark.parametrize("what", ["save_dataset", "save_dataloaders"])
def test_data_of_an_earlier_release_is_made_anew(
    toy: Toy, what: str, was_read: Asked, monkeypatch: pytest.MonkeyPatch, log_lines: Callable[[], str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sources, "ATTRIBUTE", "an_attribute_of_old")
        toy.prepared(**{what: True})
    was_read()
    toy.prepared()
    assert was_read()
    assert log_lines().endswith(
        "is left out, and its content is made anew: it was saved by an earlier release"
    )


def test_data_of_other_ids_than_those_of_a_checkpoint(toy: Toy, log_lines: Callable[[], str]) -> None:
    run = toy.trained(save_dataset=True)
    toy.write(sorted(ROWS))
    toy.prepared(save_dataset=True)
    adopted = load_data_and_model(run.file)[2]
    assert adopted.field2token_id == run.dataset.field2token_id
    assert "is left out, and its content is made anew: it has other ids of tokens than" in log_lines()


@pytest.fixture
def was_read(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Return whether files of data were read since the last call."""
    reads: list[None] = []
    load_data = Dataset._load_data

    def noted(*args: Any) -> None:
        reads.append(None)
        load_data(*args)

    monkeypatch.setattr(Dataset, "_load_data", noted)

    def asked() -> bool:
        any_read = bool(reads)
        reads.clear()
        return any_read

    return asked


def write_items(toy: Toy, kind: str) -> None:
    toy.write([(f"i{number}", kind) for number in range(40)], "item", "item_id:token\tcat:token")


@pytest.mark.parametrize("change", ["one digit", "an item file", "features", "another folder"])
def test_small_changes_are_noticed(toy: Toy, change: str, tmp_path: Path, was_read: Asked) -> None:
    write_items(toy, "c1")
    keys: dict[str, Any] = {
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "cat"]}
    }
    if change == "an item file":
        (tmp_path / "data/toy/toy.item").unlink()
    first = toy.prepared(**keys, save_dataset=True)
    path = tmp_path / "data" / "toy" / "toy.inter"
    status = path.stat()
    if change == "one digit":
        text = path.read_text()
        path.write_text(text[:-2] + ("7" if text[-2] != "7" else "8") + "\n")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_size == status.st_size
    elif change == "another folder":
        (tmp_path / "data").rename(tmp_path / "old")
        toy.write(ROWS[:120])
        write_items(toy, "c1")
    else:
        write_items(toy, "c2")
    was_read()
    again = toy.prepared(**keys)
    assert again.dataset is not first.dataset
    assert was_read(), "the saved data set was used"


def test_a_copy_of_the_same_files_is_the_same(toy: Toy, tmp_path: Path, was_read: Asked) -> None:
    toy.prepared(save_dataset=True)
    path = tmp_path / "data" / "toy" / "toy.inter"
    os.utime(path, ns=(0, 0))
    was_read()
    toy.prepared()
    assert not was_read()


def test_settings_of_columns_count_too(toy: Toy, was_read: Asked) -> None:
    toy.prepared(save_dataset=True)
    was_read()
    toy.prepared(numerical_features=["timestamp"])
    assert was_read()


def test_data_whose_files_are_gone_is_used_with_a_warning(
    toy: Toy, tmp_path: Path, log_lines: Callable[[], str]
) -> None:
    before = rows_of(toy.prepared(save_dataset=True))
    (tmp_path / "data" / "toy" / "toy.inter").unlink()
    assert rows_of(toy.prepared()) == before
    assert "is used unchecked" in log_lines()


@pytest.mark.skipif(
    int(pd.__version__.split(".")[0]) >= 3, reason="RecBole alone cannot make a data set with pandas 3"
)
def test_what_recbole_alone_has_saved_counts_by_time(
    toy: Toy, tmp_path: Path, was_read: Asked, log_lines: Callable[[], str]
) -> None:
    settings = {**toy.settings("SASRec"), "save_dataset": True, "save_dataloaders": True}
    code = (
        "import numpy as np\n"
        "np.float_, np.complex_, np.unicode_, np.bool8 = np.float64, np.complex128, np.str_, np.bool_\n"
        "import sys, types\n"
        "sys.modules['ray'] = ray = types.ModuleType('ray')\n"
        "sys.modules['ray.tune'] = ray.tune = types.ModuleType('ray.tune')\n"
        "from recbole.config import Config\nfrom recbole.data import create_dataset, data_preparation\n"
        f"config = Config('SASRec', 'toy', config_dict={settings!r})\n"
        "data_preparation(config, create_dataset(config))\n"
        "assert 'recbole_sce' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    toy.prepared("SASRec")
    assert not was_read()
    toy.write(ROWS[:120])
    now = (tmp_path / "saved" / "toy-SequentialDataset.pth").stat().st_mtime + 5
    os.utime(tmp_path / "data" / "toy" / "toy.inter", (now, now))
    toy.prepared("SASRec")
    assert was_read()
    (tmp_path / "data" / "toy" / "toy.inter").unlink()
    toy.prepared("SASRec")
    assert "toy-SequentialDataset.pth is used unchecked" in log_lines()


def test_a_large_file_is_read_in_part(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_WHOLE", 1000)
    monkeypatch.setattr(sources, "_BLOCK", 16)
    config = toy.prepared().config
    path = tmp_path / "data" / "toy" / "toy.inter"
    first = sources.digest(config)
    assert sources.digest(config) == first
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(2500)
        file.write(b"changed, of the same size")
    assert sources.digest(config) != first  # by its time
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert sources.digest(config) != first  # by a block
    path.unlink()
    assert sources.digest(config) is None
