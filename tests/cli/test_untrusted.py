"""What a stranger may have written, as the commands meet it: it is data, or it is refused with one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import malice
import numpy as np
import pytest

from cli.conftest import Call
from recbole_sce.experiments.comparison import Comparison, run_file

LOAD_COL = "--load_col={'inter': ['user_id', 'item_id', 'timestamp']}"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Name the folder that exists once code in a setting or file has run."""
    return tmp_path / "made"


@pytest.fixture
def tiny(tiny_dataset: dict[str, Any]) -> tuple[str, ...]:
    return "-d", "tiny", LOAD_COL, f"--data_path={tiny_dataset['data_path']}"


def order(made: Path) -> str:
    return f"__import__('os').mkdir({str(made)!r})"


@pytest.mark.parametrize("command", ["run", "tune", "compare"])
def test_a_setting_is_no_code(command: str, tiny: tuple[str, ...], call: Call, made: Path) -> None:
    # bucket_size_y is checked before any data is read: as a text it is impossible
    outcome = call(command, "-m", "SASRecSCE", *tiny, f"--bucket_size_y={order(made)}")
    assert outcome.code == 2
    assert "bucket_size_y" in outcome.err
    assert "must be a whole number" in outcome.err
    assert not made.exists()


@pytest.mark.parametrize("command", ["run", "tune", "compare"])
@pytest.mark.parametrize(
    "value", ["!!python/object/apply:os.mkdir [{path}]", "!!python/name:os.mkdir", "!!python/module:os"]
)
def test_a_file_of_settings_is_no_code(
    command: str, value: str, tiny: tuple[str, ...], call: Call, made: Path
) -> None:
    Path("evil.yaml").write_text(f"colour: {value.format(path=made)}\n")
    outcome = call(command, *tiny, "--config_files", "evil.yaml")
    assert outcome.code == 2
    assert "evil.yaml is not YAML" in outcome.err
    assert "python/" in outcome.err
    assert not made.exists()


def test_a_search_space_is_no_code(tiny: tuple[str, ...], call: Call, made: Path) -> None:
    pytest.importorskip("optuna", reason="tuning needs the extra recbole_sce[tune]")
    Path("evil.hyper").write_text(f"bucket_size_y choice [{order(made)}]\n")
    outcome = call("tune", *tiny, "--params_file", "evil.hyper")
    assert outcome.code == 2
    assert "evil.hyper, line 1: bucket_size_y must be a list of values" in outcome.err
    assert not made.exists()


@pytest.mark.parametrize("name", ["tiny-IndexedSequenceDataset.pth", "tiny-for-SASRecSCE-dataloader.pth"])
@pytest.mark.parametrize("way", ["found", "named"])
def test_saved_data_is_no_code(name: str, way: str, tiny: tuple[str, ...], call: Call, made: Path) -> None:
    path = Path("saved" if way == "found" else "elsewhere", name)
    path.parent.mkdir()
    path.write_bytes(malice.OPCODES["os.system, protocol 4"](made))
    key = "dataloaders_save_path" if "loader" in name else "dataset_save_path"
    outcome = call("run", *tiny, *([f"--{key}={path}"] if way == "named" else []))
    assert outcome.code == (2 if way == "named" else 0)  # a file that nobody named is left out
    if way == "named":
        assert f"error: {key} must be a file that can be read, got '{path}'" in outcome.err
    assert f"{path} was refused, and nothing in it was run: it names" in outcome.err
    assert "Traceback" not in outcome.err
    assert not made.exists()


@pytest.mark.parametrize("wrap", malice.TORCH_FILES)
def test_a_checkpoint_is_no_code(wrap: str, call: Call, made: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    path.write_bytes(malice.TORCH_FILES[wrap](malice.OPCODES["os.system, protocol 2"](made)))
    outcome = call("recommend", path, "--user", "u1")
    assert outcome.code == 2
    assert f"error: {path}" in outcome.err
    assert not made.exists()


def test_results_of_a_comparison_are_no_code(made: Path, tmp_path: Path) -> None:
    record = {"label": "a", "seed": 1}
    path = run_file(tmp_path, "a", 1, "npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, users=np.array([malice.Call(os.mkdir, str(made))], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Comparison("tiny", [], tmp_path, {}).user_values(record)
    assert not made.exists()
