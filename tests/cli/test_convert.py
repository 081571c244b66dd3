"""recbole-sce convert; what conversion does is tested with recbole_sce.data.convert."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import Call

pytest.importorskip("duckdb", reason="conversion needs the optional duckdb")

ATOMIC = "user_id:token\titem_id:token\ttimestamp:float\nu1\ti1\t100\nu1\ti2\t200\nu2\ti1\t150\n"


def test_columns_by_name(call: Call, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("who;what;when\nu1;i1;100\nu1;i2;200\nu2;i1;150\n")
    arguments = ("convert", tmp_path / "log.txt", "--out", tmp_path / "data", "--name", "shop")
    columns = ("--user", "who", "--item", "what", "--time", "when", "--separator", ";")
    outcome = call(*arguments, *columns)
    assert outcome.code == 0, outcome.err
    assert "3 interactions of 2 users with 2 items" in outcome.out
    assert (tmp_path / "data" / "shop" / "shop.inter").read_text() == ATOMIC

    outcome = call(*arguments, *columns)
    assert (outcome.code, outcome.err.strip().endswith("--overwrite replaces it")) == (2, True)
    assert call(*arguments, *columns, "--overwrite", "--min-user", 2).code == 0
    assert len((tmp_path / "data" / "shop" / "shop.inter").read_text().splitlines()) == 3


def test_columns_by_position(call: Call, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("1970-01-01,u1,i1\n1970-01-02,u1,i1\n")
    outcome = call(
        "convert",
        tmp_path / "log.csv",
        "--out",
        tmp_path,
        "--name",
        "shop",
        "--no-header",
        "--user",
        1,
        "--item",
        2,
        "--time",
        0,
        "--time-format",
        "iso",
        "--duplicates",
        "last",
    )
    assert outcome.code == 0, outcome.err
    assert "1 left out: another interaction of the same user and item" in outcome.out
    assert (tmp_path / "shop" / "shop.inter").read_text().splitlines()[1:] == ["u1\ti1\t86400"]


def test_a_known_layout(call: Call, tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n")
    arguments = ("convert", tmp_path / "ratings.dat", "--out", tmp_path, "--name", "movies")
    assert call(*arguments, "--layout", "movielens-dat").code == 0
    assert (tmp_path / "movies" / "movies.inter").read_text().endswith("1\t1193\t5\t978300760\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--layout", "movielens"], "one of movielens-dat, movielens-csv"),
        (["--layout", "gowalla", "--user", "x", "--no-header"], "it cannot go with --user, --header"),
        (["--no-header", "--user", "x"], "column must be a position from 0 on with --no-header, got 'x'"),
        (["--user", "x"], "no (single) column 'x'"),
        (["--duplicates", "none"], "duplicates must be one of all, first, last, got 'none'"),
        (["--time-format", "days"], "time_format must be one of auto, s, ms, iso, got 'days'"),
        (["--min-user", "9"], "nothing is left"),
    ],
)
def test_mistakes(arguments: list[str], text: str, call: Call, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu1,i1,100\n")
    outcome = call("convert", tmp_path / "log.csv", "--out", tmp_path, "--name", "shop", *arguments)
    assert outcome.code == 2
    assert text in outcome.err
    assert not (tmp_path / "shop").exists()
