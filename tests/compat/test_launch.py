"""``run`` over processes that it starts itself: interactive, on two machines, and where one dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import recbole.quick_start
from logs import write_log

from recbole_sce.compat.launch import RemoteTraceback, _failure, _free_port
from recbole_sce.errors import FAILED, WRONG_INPUT, exit_code, setting_up
from recbole_sce.utils.processes import Layout

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
SMALL = {"MAX_ITEM_LIST_LENGTH": 10, "hidden_size": 16, "inner_size": 16, "n_layers": 1, "n_heads": 1}
SMALL |= {"epochs": 1, "show_progress": False}


class Machine:
    """A folder, and a run there of one process of two."""

    def __init__(self, folder: Path, port: str, group_offset: int, **settings: object) -> None:
        write_log(folder / "data", "tiny", n_users=61)
        (folder / "columns.yaml").write_text("load_col: {inter: [user_id, item_id, timestamp]}\n")
        self.folder = folder
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "recbole_sce.cli",
                "run",
                "-d",
                "tiny",
                "--json",
                "result.json",
                "--nproc",
                "1",
                "--world_size",
                "2",
                "--group_offset",
                str(group_offset),
                "--ip",
                "127.0.0.1",
                "--port",
                port,
                "--config_files",
                "columns.yaml",
                "--data_path=data",
                *(f"--{key}={value}" for key, value in {**SMALL, **settings}.items()),
            ],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def worker(self) -> psutil.Process:
        """Return the process that trains."""
        (worker,) = (
            child
            for child in psutil.Process(self.process.pid).children()
            if "--multiprocessing-fork" in child.cmdline()
        )
        return worker

    def end(self, within: int = 600) -> tuple[int, str]:
        """Return the exit code and the last line of stderr; it must end ``within`` seconds."""
        _, errors = self.process.communicate(timeout=within)
        return self.process.returncode, errors.strip().splitlines()[-1]


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Any]:
    """Return ``start(**settings)`` -> two machines that have nothing in common but a port."""
    started: list[Machine] = []

    def start(**settings: object) -> list[Machine]:
        port = _free_port()
        started.extend(Machine(tmp_path / str(rank), port, rank, **settings) for rank in (0, 1))
        return started

    yield start
    for machine in started:
        machine.process.kill()
        machine.process.communicate()


@pytest.mark.slow
def test_two_machines_find_the_same(machines: Any) -> None:
    both = machines(metrics="['NDCG','ItemCoverage','GAUC']")
    assert [machine.end()[0] for machine in both] == [0, 0]
    first, second = (json.loads((machine.folder / "result.json").read_text()) for machine in both)
    assert first["test_result"] == second["test_result"]
    assert first["best_valid_result"] == second["best_valid_result"]
    best = Path(first["checkpoint"])
    assert set((both[0].folder / "saved").glob("*.pth")) == {best, best.with_name(f"{best.stem}-last.pth")}
    assert second["checkpoint"] is None
    assert not list((both[1].folder / "saved").glob("*.pth"))


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others(machines: Any) -> None:
    first, second = machines(epochs=10**6, stopping_step=10**6)
    while not list(first.folder.glob("saved/*.pth")):  # they train
        assert first.process.poll() is None
        time.sleep(0.1)
    os.kill(second.worker().pid, signal.SIGKILL)
    code, error = second.end(within=60)
    assert code == 1
    assert error.startswith("error: RuntimeError: process 1 of 2 was killed by SIGKILL")
    code, error = first.end(within=60)
    assert code == 1
    assert error.startswith("error: RuntimeError: process 0 of 2 has lost another one")


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_others(tmp_path: Path) -> None:
    code = (
        "import sys, time, torch, torch.distributed as dist\n"
        "from recbole_sce.utils.processes import Layout, join\n"
        f"join(Layout(2, 2, port={_free_port()!r}), int(sys.argv[1]), 'gloo', timeout=1)\n"
        "print('joined', flush=True)\n"
        "time.sleep(300) if sys.argv[1] == '1' else dist.all_reduce(torch.zeros(1))\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, rank],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        out, error = started[0].communicate(timeout=600)
    finally:
        started[1].kill()
        started[1].communicate()
    assert out == "joined\n"
    assert started[0].returncode == 1
    assert "Timed out waiting 1000ms" in error


@pytest.mark.slow
def test_an_interactive_session(tiny_dataset: dict[str, Any], tmp_path: Path) -> None:
    settings = {**tiny_dataset, **SMALL, "metrics": ["NDCG"], "valid_metric": "NDCG@10"}
    code = (
        "import json\n"
        "import recbole_sce\n"
        "from recbole.quick_start import run\n"
        f"settings = {settings!r}\n"
        "given = dict(settings)\n"
        "result = run('SASRecSCE', 'tiny', config_dict=settings, saved=False, nproc=2)\n"
        "assert settings == given\n"
        "print(json.dumps(result))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert 0 < result["test_result"]["ndcg@10"] < 1
    assert not list((tmp_path / "saved").glob("*.pth"))


@pytest.mark.slow
def test_an_error_comes_out_as_it_was_raised(tiny_dataset: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"data set 'nothing': .* does not exist") as raised:
        recbole.quick_start.run("SASRecSCE", "nothing", config_dict=tiny_dataset, world_size=1)
    assert isinstance(raised.value.__cause__, RemoteTraceback)
    assert exit_code(raised.value) == WRONG_INPUT
    assert "_get_download_url" in str(raised.value.__cause__)


def test_arguments_beside_torchruns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(
        ValueError, match=r"nproc and world_size must be left out under torchrun.*got 2 and -1"
    ):
        recbole.quick_start.run("SASRecSCE", "ml-100k", nproc=2)


def test_an_error_that_cannot_be_sent_is_told() -> None:
    class Own(Exception):
        pass

    failure = _failure(Own("broke"), Layout(2, 2), 1)
    assert str(failure.error) == "Own: broke"
    assert exit_code(failure.error) == FAILED
    with pytest.raises(Own) as raised, setting_up():
        raise Own("impossible")
    assert exit_code(_failure(raised.value, Layout(2, 2), 1).error) == WRONG_INPUT
    lost = _failure(RuntimeError("[pair.cc:534] Connection closed by peer [::1]:1"), Layout(2, 4, 2), 1)
    assert str(lost.error).startswith("process 3 of 4 has lost another one")
    assert (failure.is_of_others, lost.is_of_others) == (False, True)
