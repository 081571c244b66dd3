from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import peers
from harness.peer_process import ITEM, TIME, USER, seen_items
from logs import write_log


def row(peer: str, epoch: int, seconds: float, targets: int = 1000) -> peers.Row:
    return {
        "dataset": "data",
        "peer": peer,
        "epoch": str(epoch),
        "training_cpu_seconds": str(seconds),
        "targets": str(targets),
        "ndcg@10": f"{epoch / 100}",
        "recall@10": f"{epoch / 50}",
        "peak_mib": "600",
        "package": f"{peer} 1.0",
    }


def test_the_log_has_no_ties_and_no_rare_ones(tmp_path: Path) -> None:
    times = {"a": [3, 1, 2, 2, 2], "b": [1, 1, 1, 1, 1], "c": [1, 2, 3, 4, 5], "rare": [1, 2]}
    items = {
        "a": ["last", "x", "first", "second", "third"],
        **{name: ["x", "first", "second", "third", "last"] for name in ("b", "c")},
        "rare": ["x", "first"],
    }
    rows = [(user, item, time) for user in times for item, time in zip(items[user], times[user])]
    rows += [(f"more{n}", item, n) for n in range(2) for item in ("x", "first", "second", "third", "last")]
    source = tmp_path / "log.inter"
    pd.DataFrame(rows, columns=[USER, ITEM, TIME]).to_csv(source, sep="\t", index=False)
    peers.prepare(source, tmp_path / "new" / "log.inter")
    log = pd.read_csv(tmp_path / "new" / "log.inter", sep="\t")
    assert "rare" not in set(log[USER])
    assert log[log[USER] == "a"][ITEM].tolist() == ["x", "first", "second", "third", "last"]
    assert log[log[USER] == "b"][ITEM].tolist() == ["x", "first", "second", "third", "last"]
    assert log[log[USER] == "b"][TIME].tolist() == [1, 2, 3, 4, 5]
    assert peers.held_out(log) == dict.fromkeys(("a", "b", "c", "more0", "more1"), "last")


def test_quality_counts_users_without_a_list() -> None:
    targets = {"a": "1", "b": "2", "c": "3", "d": "4"}
    ndcg, recall = peers.quality({"a": ["1", "9"], "b": ["9", "2"], "c": ["8", "9"]}, targets)
    assert recall == 0.5
    assert ndcg == pytest.approx((1 + 1 / np.log2(3)) / 4)


def test_a_peer_that_tests_other_items_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "targets.npz"
    np.savez(path, users=np.array(["b", "a"]), items=np.array(["2", "1"]))
    peers.check_targets("Peer", path, {"a": "1", "b": "2"})
    with pytest.raises(
        peers.PeerError, match="the last item of each of 2 users, got 2 users, and other items for 1"
    ):
        peers.check_targets("Peer", path, {"a": "1", "b": "3"})
    with pytest.raises(peers.PeerError, match="got 2 users"):
        peers.check_targets("Peer", path, {"a": "1"})


def test_seen_items_are_of_each_user_of_a_batch() -> None:
    users, items = np.array([3, 1, 3, 2, 1]), np.array([30, 10, 31, 20, 11])
    rows, seen = seen_items(users, items, 5)(np.array([3, 4, 1]))
    assert list(zip(rows.tolist(), seen.tolist())) == [(0, 30), (0, 31), (2, 10), (2, 11)]


def test_the_table_compares_the_time_of_a_target() -> None:
    rows = [
        row("recbole_sce, SCE", 1, 2.0),
        row("recbole_sce, SCE", 2, 2.0),
        row("recbole_sce, CE, plain", 1, 2.0),
        row("Other", 1, 10.0, targets=500),
    ]
    lines = peers.table(rows).splitlines()[2:]
    assert lines[0].startswith(
        "| data | recbole_sce, SCE (recbole_sce, SCE 1.0) | 2 | 1,000 | 1.0 | 1,000.0 |"
    )
    assert (
        lines[2]
        == "| data | Other (Other 1.0) | 1 | 500 | 10.0 | 20,000.0 | 10.0 | 20.0 | 0.0100 | 0.0200 | 600 |"
    )


def test_a_peer_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(tmp_path / "data", "tiny")
    broken = peers.Peer("broken", "harness.no_such_program", "")
    monkeypatch.setattr(peers, "PEERS", (broken,))
    monkeypatch.setattr("sys.stderr.write", lambda text: len(text))
    arguments = [
        "--datasets",
        "tiny",
        "--data-path",
        str(tmp_path / "data"),
        "--work",
        str(tmp_path / "work"),
    ]
    with pytest.raises(SystemExit, match="1"):
        peers.main(["run", *arguments, "--csv", str(tmp_path / "p.csv"), "--peers", "broken"])


@pytest.mark.slow
def test_a_run_adds_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(tmp_path / "data", "tiny")
    own = [peers.DEFAULT, "RecBole"]  # others are installed from an index
    where = ["--datasets", "tiny", "--data-path", str(tmp_path / "data"), "--work", str(tmp_path / "work")]
    table = ["--csv", str(tmp_path / "peers.csv")]
    command = ["run", *where, *table, "--max-length", "8", "--peers", *own, "--epochs"]
    assert peers.main([*command, "1"]) == 0
    first = (tmp_path / "peers.csv").read_text(encoding="utf-8")
    assert peers.main([*command, "1"]) == 0
    assert "all 1 epochs are there" in capsys.readouterr().err
    assert (tmp_path / "peers.csv").read_text(encoding="utf-8") == first
    assert peers.main([*command, "2"]) == 0
    with (tmp_path / "peers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted((one["peer"], one["epoch"]) for one in rows) == sorted((n, e) for n in own for e in "12")
    assert len({one["targets"] for one in rows}) == 1  # all train each position once an epoch
    assert all(float(one["recall@10"]) > 0 for one in rows)

    page = tmp_path / "peers.md"
    assert peers.main(["render", *table, "--markdown", str(page)]) == 0
    assert "![NDCG@10 against processor time](peers.svg)" in page.read_text(encoding="utf-8")
    assert "<svg" in (tmp_path / "peers.svg").read_text(encoding="utf-8")


def test_nothing_to_render_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="1"):
        peers.main(["render", "--csv", str(tmp_path / "none.csv"), "--markdown", str(tmp_path / "p.md")])
