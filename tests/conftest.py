"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import os
from pathlib import Path

# Where triton is installed its kernels are tested in its interpreter, which has to be chosen before anything
# imports triton. On a machine with a GPU, TRITON_INTERPRET=0 tests the compiled kernels there.
os.environ.setdefault("TRITON_INTERPRET", "1")

import hypothesis
import pytest
from logs import write_log

import recbole_sce  # noqa: F401  (before any module of RecBole: without ray it is what makes them importable)

# The same examples in each run of the suite; many new ones where they are asked for (make soak).
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, max_examples=40)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=3000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.fixture
def tiny_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Configuration of a small generated data set ``tiny``; the working directory is a temporary one.

    RecBole writes ``log/``, ``log_tensorboard/`` and ``saved/`` into the working directory and reads
    ``sys.argv``; both belong to the test alone.
    """
    write_log(tmp_path / "data", "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    return {
        "data_path": str(tmp_path / "data"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": 10,
        **{"bucket_size_y": 4, "n_outside": 3},  # with more, SCE would compute the exact softmax of 40 items
        "epochs": 1,
        "show_progress": False,
    }
