"""What ``recbole-sce run`` does with odd input: a table of rows, each with what is promised for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest

from cli.conftest import Call

HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"
SMALL = (
    "--hidden_size=8",
    "--inner_size=8",
    "--n_layers=1",
    "--n_heads=1",
    "--epochs=1",
    "--show_progress=False",
    "--bucket_size_y=2",
    "--MAX_ITEM_LIST_LENGTH=10",
    "--topk=[1]",
    "--valid_metric=NDCG@1",
    "--data_path=data",
    "--load_col={'inter': ['user_id', 'item_id', 'timestamp']}",
)


def lines(n_users: int = 20, n_items: int = 15, length: int = 8) -> list[str]:
    """Return interactions, users and items drawn at random."""
    rng = np.random.default_rng(0)
    return [
        f"u{user}\ti{rng.integers(n_items)}\t{100 * user + step}"
        for user in range(n_users)
        for step in range(length)
    ]


def text(rows: Sequence[str], header: str = HEADER) -> str:
    return header + "".join(f"{row}\n" for row in rows)


def every_fifth(change: str) -> str:
    """Return a log in which every fifth line is ``change``; {user}, {item}, {time} stand for its own."""
    rows = []
    for number, row in enumerate(lines()):
        user, item, time = row.split("\t")
        rows.append(change.format(user=user, item=item, time=time) if number % 5 == 0 else row)
    return text(rows)


def columns(*kept: int) -> str:
    pick = [HEADER.rstrip("\n"), *lines()]
    return "".join("\t".join(row.split("\t")[k] for k in kept) + "\n" for row in pick)


GOOD = text(lines())


class Row(NamedTuple):
    """One odd input: the bytes of the ``.inter`` file, further arguments, and pieces of the message."""

    content: str | bytes
    arguments: tuple[str, ...] = ()
    message: tuple[str, ...] = ()


REFUSED = {
    "empty file": Row("", message=("bad.inter: '' in the first line is not name:type", "token, float")),
    "column names only": Row(HEADER, message=("bad.inter: no interaction, only the line of column names",)),
    "no user column": Row(
        columns(1, 2),
        message=(
            "bad.inter: column 'user_id' (USER_ID_FIELD) is not loaded",
            "of the file: item_id, timestamp",
        ),
    ),
    "no item column": Row(
        columns(0, 2), message=("bad.inter: column 'item_id' (ITEM_ID_FIELD) is not loaded",)
    ),
    "no time column": Row(
        columns(0, 1), message=("bad.inter: column 'timestamp' (TIME_FIELD) is not loaded",)
    ),
    "some times missing": Row(
        every_fifth("{user}\t{item}\t"),
        message=("bad.inter: 32 of 160 interactions have no finite 'timestamp' (TIME_FIELD)", "in line 2"),
    ),
    "all times missing": Row(
        text([row.rsplit("\t", 1)[0] + "\t" for row in lines()]), message=("160 of 160 interactions",)
    ),
    "an infinite time": Row(GOOD + "u1\ti1\tinf\n", message=("1 of 161", "in line 162")),
    "words for times": Row(
        every_fifth("{user}\t{item}\tyesterday"),
        message=("bad.inter cannot be read", "'yesterday'", "timestamp"),
    ),
    "a tab inside an id": Row(
        every_fifth("{user}\tan\t{item}\t{time}"), message=("bad.inter cannot be read",)
    ),
    "a line that ends early": Row(
        GOOD + "u1\n", message=("1 of 161 interactions have no finite 'timestamp'",)
    ),
    "an open quotation mark": Row(
        every_fifth('{user}\t"{item}\t{time}'), message=("bad.inter: column 'item_id'", "quotation mark")
    ),
    "one user, two interactions": Row(
        text(lines(1, 15, 2)), message=("bad: no interaction is left for validation", "only 1 follow another")
    ),
    "users with one interaction only": Row(
        text(lines(20, 15, 1)), message=("bad: no user has more than one interaction",)
    ),
    "not UTF-8": Row(
        GOOD.replace("i3", "caf\xe9").encode("latin-1"),
        message=("bad.inter is not utf-8: line", "0xe9", "latin-1"),
    ),
    "not UTF-8 in the first line": Row(
        GOOD.replace("timestamp", "zeit\xfc").encode("latin-1"),
        message=("bad.inter is not utf-8: line 1 has",),
    ),
    "UTF-16": Row(GOOD.encode("utf-16"), message=("bad.inter is not utf-8: line 1 has the byte 0xff",)),
    "an unknown encoding": Row(
        GOOD, ("--encoding=utf-99",), ("encoding must be a name that Python knows", "latin-1, got 'utf-99'")
    ),
    "one item, ten ranks": Row(
        text(lines(20, 1)),
        ("--topk=[10]", "--valid_metric=NDCG@10"),
        ("topk must be at most 2", "bad"),
    ),
    "eval_batch_size 0": Row(
        GOOD, ("--eval_batch_size=0",), ("eval_batch_size must be a whole number of at least 1, got 0",)
    ),
    "train_batch_size -1": Row(
        GOOD, ("--train_batch_size=-1",), ("train_batch_size must be a whole number of at least 1, got -1",)
    ),
    "train_batch_size in words": Row(
        GOOD,
        ("--train_batch_size=many",),
        ("train_batch_size must be a whole number of at least 1, got 'many'",),
    ),
    "no place for history": Row(
        GOOD,
        ("--MAX_ITEM_LIST_LENGTH=0",),
        ("MAX_ITEM_LIST_LENGTH must be a whole number of at least 1, got 0",),
    ),
    "epochs -1": Row(GOOD, ("--epochs=-1",), ("epochs must be a whole number of at least 0, got -1",)),
    "a learning rate in words": Row(
        GOOD, ("--learning_rate=fast",), ("learning_rate must be a number of at least 0, got 'fast'",)
    ),
    "a valid_metric that is not computed": Row(
        GOOD,
        ("--valid_metric=NDCG@20",),
        ("valid_metric must be ", "got 'NDCG@20'", "ndcg@1"),
    ),
    "a checkpoint folder in a file": Row(
        GOOD, ("--checkpoint_dir=data/bad/bad.inter",), ("bad.inter cannot be written", "checkpoint_dir")
    ),
}

#: GPUs that are asked for on a machine without one.
ABSENT = ("--use_gpu=True", "--gpu_id=0", "--gpu_id=7", "--device=cuda", "--device=cuda:0")

FINE = {
    "Windows line ends": Row(GOOD.replace("\n", "\r\n")),
    "a byte order mark": Row(GOOD.encode("utf-8-sig")),
    "a tab at the end of each line": Row(GOOD.replace("\n", "\t\n").replace(":float\t\n", ":float\n")),
    "ids with spaces and unicode": Row(
        GOOD.replace("i3\t", "\u96fb \u5f71\t").replace("u1\t", "J\xf6rg M. \U0001f600\t")
    ),
    "latin-1, and said so": Row(GOOD.replace("i3", "caf\xe9").encode("latin-1"), ("--encoding=latin-1",)),
    "every line twice": Row(GOOD + text(lines(), header="")),
    "one user": Row(text(lines(1, 15, 12))),
    "some users with one interaction": Row(GOOD + "x\ti3\t5\ny\tnew\t6\n"),
    "items in the test part only": Row(GOOD + "".join(f"u{u}\tnew{u}\t{100 * u + 50}\n" for u in range(20))),
    "one item": Row(text(lines(20, 1))),
    "b_y larger than the catalogue": Row(GOOD, ("--bucket_size_y=100000", "--complete_softmax=False")),
    "buckets larger than a batch": Row(GOOD, ("--bucket_size_x=100000", "--n_buckets=1000")),
    "more negatives than items": Row(GOOD, ("--n_negatives=1000", "--loss_type=CE-")),
    "batches of one": Row(GOOD, ("--train_batch_size=1", "--eval_batch_size=1")),
    "no epoch": Row(GOOD, ("--epochs=0",)),
}


@pytest.fixture
def run(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Return ``run(row)``: the command on its file, in this process."""
    monkeypatch.chdir(tmp_path)
    # RecBole's report of the machine waits a second for this one.
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval=None, percpu=False: 0.0)

    def on(row: Row, *arguments: str):  # type: ignore[no-untyped-def]
        write(tmp_path, row.content)
        given = [*row.arguments, *arguments]
        keys = {argument.split("=")[0] for argument in given}
        return call("run", "-d", "bad", *(a for a in SMALL if a.split("=")[0] not in keys), *given)

    return on


def write(folder: Path, content: str | bytes) -> None:
    path = folder / "data" / "bad" / "bad.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def assert_refused(outcome, message: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    assert outcome.code == 2, outcome
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert errors == outcome.err.splitlines()[-1:]  # one paragraph, the last
    for piece in message:
        assert piece in errors[0]
    assert "Traceback" not in outcome.out + outcome.err


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_one_clear_paragraph(name: str, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    row = REFUSED[name]
    assert_refused(run(row), row.message)
    assert not list(tmp_path.rglob("*.pth"))


@pytest.mark.parametrize("name", FINE)
def test_is_legitimate_and_works(name: str, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    outcome = run(FINE[name], "--json", "result.json")
    assert outcome.code == 0, outcome.err
    metrics = json.loads((tmp_path / "result.json").read_text())["test_result"]
    assert metrics
    assert all(0 <= value <= 1 for value in metrics.values())


def test_line_ends_and_marks_change_no_result(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    results = []
    for row in (Row(GOOD), FINE["Windows line ends"], FINE["a byte order mark"]):
        assert run(row, "--json", "result.json").code == 0
        results.append(json.loads((tmp_path / "result.json").read_text())["test_result"])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("argument", ABSENT)
def test_a_gpu_that_is_asked_for_and_not_there(argument: str, run, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert_refused(run(Row(GOOD), argument), (argument, "--use_gpu=False"))


@pytest.mark.parametrize("arguments", [(), ("--use_gpu=False",), ("--gpu_id=",)])
def test_who_asks_for_no_gpu_gets_the_cpu(arguments: tuple[str, ...], run, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(Row(GOOD), "--epochs=0", *arguments).code == 0


@pytest.mark.parametrize("name", ["log", "log_tensorboard", "saved"])
def test_a_working_directory_that_cannot_be_written(name: str, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    # A file in the way stops the superuser, too, whom permissions do not.
    (tmp_path / name).write_text("")
    assert_refused(run(Row(GOOD)), (f"{tmp_path / name} cannot be written", "that you may write to"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody can make another")
def test_a_working_directory_of_the_system(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    arguments = [*(a for a in SMALL if not a.startswith("--data_path")), f"--data_path={tmp_path / 'data'}"]
    outcome = subprocess.run(
        [sys.executable, "-m", "recbole_sce.cli", "run", "-d", "bad", *arguments],
        cwd="/proc/self",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 2
    assert "log cannot be written" in outcome.stderr
    assert "run in a folder that you may write to" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.slow
def test_the_shell_sees_the_same(shell: Call, tmp_path: Path) -> None:
    row = REFUSED["not UTF-8"]
    write(tmp_path, row.content)
    assert_refused(shell("run", "-d", "bad", *SMALL, *row.arguments), row.message)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["empty file", "no item column", "not UTF-8", "eval_batch_size 0"])
def test_no_traceback_with_recboles_own_models(name: str, run) -> None:  # type: ignore[no-untyped-def]
    outcome = run(REFUSED[name], "-m", "SASRec", "--train_neg_sample_args=None")
    assert outcome.code != 0
    assert outcome.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in outcome.out + outcome.err


@pytest.mark.slow
def test_a_history_of_a_hundred_thousand_items(run, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    long = [f"long\ti{step % 500}\t{step}" for step in range(100_000)]
    outcome = run(Row(text([*lines(), *long])), "--exclude_seen=True", "--json", "result.json")
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "result.json").read_text())["test_result"]
