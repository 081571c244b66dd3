"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import inspect
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# One thread in this process and in those that tests start: small products gain nothing from threads, which
# wait for each other on a busy machine. Libraries read these before torch is imported.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
# Where triton is installed its kernels are tested in its interpreter, which has to be chosen before anything
# imports triton. On a machine with a GPU, TRITON_INTERPRET=0 tests the compiled kernels there.
os.environ.setdefault("TRITON_INTERPRET", "1")

import hypothesis
import numpy as np
import psutil
import pytest
import torch
from groups import PROCESSES, SHARED_DATA
from logs import write_log
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import recbole_sce  # noqa: F401  (before any module of RecBole: without ray it is what makes them importable)

# isort: split
import factory

from recbole_sce.experiments import comparison, process, tuning
from recbole_sce.experiments.spec import RunSpec

# The same examples in each run of the suite; many new ones where they are asked for (make soak). On a busy
# machine drawing them may take long, which is no fault.
any_time: dict[str, Any] = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("suite", derandomize=True, max_examples=40, **any_time)
hypothesis.settings.register_profile("soak", max_examples=3000, print_blob=True, **any_time)
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
        "bucket_size_y": 4,
        "n_outside": 3,  # with more, SCE would compute the exact softmax of 40 items
        "epochs": 1,
        "show_progress": False,
    }


@pytest.fixture
def forget_registered() -> Iterator[None]:
    """Forget, after a test, the models that it has registered."""
    from recbole_sce import plugin

    before = dict(plugin._models)
    yield
    plugin._models.clear()
    plugin._models.update(before)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], None]:
    """Put back, for the rest of the test, what patches have replaced."""

    def put_back(owner: Any, name: str) -> None:
        monkeypatch.setattr(owner, name, inspect.unwrap(getattr(owner, name)))

    return put_back


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    """Run code in a fresh process, in the test's own folder."""

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)

    return run


@pytest.fixture
def runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let comparisons and searches train in this process: one of its own costs seconds of imports each."""

    def run(spec: RunSpec, folder: Path, progress: Callable[..., None]) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        news: list[dict[str, Any]] = []
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            try:
                record, per_user = process.execute(spec, news.append)
                np.savez_compressed("users.npz", **per_user)
            except Exception as error:
                record = process.failure(error)
        for event in json.loads(json.dumps(news)):
            progress(event)
        return json.loads(json.dumps(record))

    for module in (comparison, tuning):
        monkeypatch.setattr(module, "run_in_process", run)


class _LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {id(leaf) for leaf in tree_leaves((args, kwargs))}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and id(leaf) not in given and not func.is_view:
                self.n_bytes = max(self.n_bytes, leaf.numel() * leaf.element_size())
        return result


@pytest.fixture
def largest_tensor() -> Callable[[], Any]:
    """Return a context manager; ``n_bytes`` of what it gives is the largest tensor made within, in bytes."""

    @contextmanager
    def measure() -> Iterator[_LargestTensor]:
        with _LargestTensor() as largest:
            yield largest

    return measure


@pytest.fixture(scope="module")
def ml_100k(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SimpleNamespace]]:
    """Return ``prepare(**config)`` -> config, model, loaders ``train``, ``valid``, ``test``; on ml-100k."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("ml-100k"))
        patch.setattr("sys.argv", ["pytest"])

        def prepare(model: str = "SASRecSCE", **settings: Any) -> SimpleNamespace:
            small = {"hidden_size": 16, "inner_size": 16, "n_layers": 1, "n_heads": 1, "loss_type": "CE-"}
            given = {
                "MAX_ITEM_LIST_LENGTH": 20,
                "train_neg_sample_args": None,
                "state": "ERROR",
                **small,
                "show_progress": False,
                "metric_decimal_place": 8,
                "topk": [5, 10],
                **settings,
            }
            return factory.prepare(model, "ml-100k", given)

        yield prepare


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_cpu_usage() -> Iterator[None]:
    """RecBole's table of the environment, which every run prints, measures the CPU for a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psutil, "cpu_percent", lambda interval=None: 0.0)
        yield


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep on one worker the tests that start processes which meet, and those of one file that share data.

    Workers begin with slow tests, so that none waits at the end for a long one of another.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        file = item.path.relative_to(Path(__file__).parent).as_posix()
        if file in PROCESSES:
            item.add_marker(pytest.mark.xdist_group("processes"))
        elif file in SHARED_DATA:
            item.add_marker(pytest.mark.xdist_group(file))


@pytest.fixture(autouse=True)
def _log_is_heard() -> None:
    """Let each test hear warnings, whatever level a run of another one has left behind (``state: ERROR``)."""
    root = logging.getLogger()
    logging.disable(logging.NOTSET)
    root.setLevel(logging.WARNING)
    root.disabled = False
