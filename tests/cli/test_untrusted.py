"""What a stranger may have written, as the commands meet it: it is data, or it is refused with one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import malice
import numpy as np
import pytest

from cli.conftest import Call

ARGUMENTS = ("-d", "tiny", "--epochs=1", "--hidden_size=16", "--inner_size=16", "--show_progress=False")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Name the folder that exists once code in a setting or file has run."""
    return tmp_path / "made"


@pytest.fixture
def tiny(tiny_dataset: dict[str, Any]) -> tuple[str, ...]:
    return (*ARGUMENTS, f"--data_path={tiny_dataset['data_path']}")


def order(made: Path) -> str:
    return f"__import__('os').mkdir({str(made)!r})"


@pytest.mark.parametrize("command", ["run", "tune", "compare"])
def test_a_setting_is_no_code(command: str, tiny: tuple[str, ...], call: Call, made: Path) -> None:
    # bucket_size_y is read before any data is: as text it is impossible
    models = ["--models", "SASRecSCE", "--seeds", "1"] if command == "compare" else []
    arguments = tiny[2:] if command == "compare" else tiny
    data = ["--datasets", "tiny"] if command == "compare" else []
    outcome = call(command, *models, *data, *arguments, f"--bucket_size_y={order(made)}")
    assert outcome.code == 2, outcome
    assert "bucket_size_y" in outcome.err
    assert not made.exists()


@pytest.mark.parametrize("command", ["run", "tune"])
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
    pytest.importorskip("hyperopt", reason="tuning needs the extra recbole_sce[hyperopt]")
    Path("evil.hyper").write_text(f"bucket_size_y choice [{order(made)}]\n")
    outcome = call("tune", *tiny, "--params_file", "evil.hyper")
    assert outcome.code == 2
    assert "evil.hyper: " in outcome.err
    assert "is no plain value" in outcome.err
    assert not made.exists()


@pytest.mark.parametrize("name", ["tiny-IndexedSequenceDataset.pth", "tiny-for-SASRecSCE-dataloader.pth"])
@pytest.mark.parametrize("way", ["found", "named"])
def test_saved_data_is_no_code(
    name: str, way: str, tiny: tuple[str, ...], call: Call, made: Path
) -> None:
    path = Path("saved" if way == "found" else "elsewhere", name)
    path.parent.mkdir()
    path.write_bytes(malice.OPCODES["os.system, protocol 4"](made))
    key = "dataloaders_save_path" if "loader" in name else "dataset_save_path"
    outcome = call("run", *tiny, *([f"--{key}={path}"] if way == "named" else []))
    assert outcome.code == 2
    assert f"error: {path} was refused, and nothing in it was run: it names" in outcome.err
    assert "Traceback" not in outcome.err
    assert not made.exists()


@pytest.mark.parametrize("wrap", malice.TORCH_FILES)
def test_a_checkpoint_is_no_code(wrap: str, call: Call, made: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    path.write_bytes(malice.TORCH_FILES[wrap](malice.OPCODES["os.system, protocol 2"](made)))
    outcome = call("recommend", "--checkpoint", path, "--users", "u1")
    assert outcome.code == 2
    assert f"error: {path}" in outcome.err
    assert not made.exists()


def test_results_of_a_comparison_are_no_code(made: Path, tmp_path: Path) -> None:
    """Metrics of each user are arrays of numbers, which numpy reads without pickle."""
    import os

    np.savez(tmp_path / "evil.npz", a=np.array([malice.Call(os.mkdir, str(made))], dtype=object))
    with np.load(tmp_path / "evil.npz") as content, pytest.raises(ValueError, match="allow_pickle=False"):
        content["a"]
    assert not made.exists()
