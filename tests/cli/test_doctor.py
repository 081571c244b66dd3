"""recbole-sce doctor."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from logs import write_log

from cli.conftest import Call
from recbole_sce import compat
from recbole_sce.cli import doctor as module


def test_versions_patches_and_data(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "dataset", "mine")
    outcome = call("doctor")
    assert outcome.code == 0
    assert version("torch") in outcome.out
    assert all(name in outcome.out for name in [patch.name for patch in compat.active()])
    assert f"{tmp_path / 'dataset'} (exists)" in outcome.out
    assert "found there   mine\n" in outcome.out
    outcome = call("doctor", "--data_path", tmp_path / "none")
    assert f"{tmp_path / 'none'} (does not exist)" in outcome.out


def test_what_is_missing(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module.requirements,
        "installed",
        lambda package: None if package in ("recbole", "faiss-cpu") else "9.9",
    )
    outcome = call("doctor")
    assert outcome.code == 1
    assert "missing: pip install faiss-cpu" in outcome.out
    assert "recbole missing; recbole-sce doctor --fix" in outcome.out


def test_fix_installs_what_every_command_needs(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[str] = []
    monkeypatch.setattr(
        module.requirements,
        "installed",
        lambda name: None if name in ("recbole", "ray") and name not in installed else "1",
    )
    monkeypatch.setattr(module.requirements, "install", installed.append)
    outcome = call("doctor", "--fix")
    assert outcome.code == 0
    assert installed == ["recbole"]


def test_another_release_of_recbole(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.requirements, "installed", lambda package: "1.3.0")
    outcome = call("doctor")
    assert outcome.code == 0
    assert "made for RecBole 1.2.1" in outcome.out
