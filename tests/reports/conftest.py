"""Small runs on a log whose lines a test can change."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli.conftest import call
from factory import SMALL, prepare_trainer

__all__ = ["call"]

Row = tuple[str, str, str]

_RNG = random.Random(0)
#: Users who walk the catalogue three items at a time; lines in no order.
ROWS: list[Row] = [
    (f"u{user}", f"i{(user + 3 * step + _RNG.randint(0, 2)) % 40}", str(1000 * user + step))
    for user in range(30)
    for step in range(8)
]
_RNG.shuffle(ROWS)


class Toy:
    """A data set ``toy`` in a folder of its own, and runs on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write(ROWS)

    def write(
        self,
        rows: list[Row],
        kind: str = "inter",
        header: str = "user_id:token\titem_id:token\ttimestamp:float",
    ) -> None:
        path = self.folder / "data" / "toy" / f"toy.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n")

    def settings(self, model: str = "SASRecSCE", **keys: Any) -> dict[str, Any]:
        neg = {} if model.endswith("SCE") else {"train_neg_sample_args": None}
        return {
            "data_path": str(self.folder / "data"),
            "checkpoint_dir": "saved",
            "epochs": 2,
            "use_gpu": False,
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "MAX_ITEM_LIST_LENGTH": 8,
            "show_progress": False,
            "learning_rate": 0.01,
            **SMALL,
            **neg,
            **keys,
        }

    def prepared(self, model: str = "SASRecSCE", **keys: Any) -> SimpleNamespace:
        """Make what ``run_recbole`` makes before it trains."""
        return prepare_trainer(model, "toy", self.settings(model, **keys))

    def trained(self, model: str = "SASRecSCE", **keys: Any) -> SimpleNamespace:
        """Train, and return also where the best model is, as ``file``."""
        run = self.prepared(model, **keys)
        run.trainer.fit(run.train, run.valid, show_progress=False)
        run.file = run.trainer.saved_model_file
        return run


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    return Toy(tmp_path)


@pytest.fixture
def log_lines(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return what was logged so far, at level WARNING and above."""
    caplog.set_level("WARNING")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)
