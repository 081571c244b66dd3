"""Raw logs to atomic files: what is read, what is left out and counted, and what is written."""

from __future__ import annotations

import gzip
import lzma
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from recbole.config import Config
from recbole.data import create_dataset

import recbole_sce  # noqa: F401  (registers)

pytest.importorskip("duckdb", reason="conversion needs the optional duckdb")
from recbole_sce.data import convert as module
from recbole_sce.data.convert import convert
from recbole_sce.data.raw_logs import PRESETS, ConversionError, Layout

HEADER = "user_id,item_id,timestamp\n"
LOG = HEADER + "u1,i1,100\nu1,i2,200\nu2,i1,150\n"
ATOMIC = "user_id:token\titem_id:token\ttimestamp:float\nu1\ti1\t100\nu1\ti2\t200\nu2\ti1\t150\n"


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def converted(path: Path, tmp_path: Path, *args: Any, **kwargs: Any) -> str:
    return convert(path, tmp_path / "out", "log", *args, **kwargs).path.read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()[1:]]


PRESET_LOGS = {
    "movielens-dat": ("ratings.dat", "1::1193::5::978300760\n1::661::3.5::978302109\n"),
    "movielens-csv": (
        "ratings.csv",
        "userId,movieId,rating,timestamp\n1,1193,5,978300760\n1,661,3.5,978302109\n",
    ),
    "amazon-2014": ("ratings_Beauty.csv", "1,1193,5.0,978300760\n1,661,3.5,978302109\n"),
    "amazon-2018": ("All_Beauty.csv", "1193,1,5.0,978300760\n661,1,3.5,978302109\n"),
    "amazon-2023": (
        "All_Beauty.csv",
        "user_id,parent_asin,rating,timestamp\n1,1193,5.0,978300760000\n1,661,3.5,978302109000\n",
    ),
}


class TestPresets:
    @pytest.mark.parametrize("preset", PRESET_LOGS)
    def test_ratings(self, preset: str, tmp_path: Path) -> None:
        name, text = PRESET_LOGS[preset]
        assert converted(write(tmp_path / name, text), tmp_path, preset) == (
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
            "1\t1193\t5\t978300760\n1\t661\t3.5\t978302109\n"
        )

    def test_gowalla(self, tmp_path: Path) -> None:
        log = write(
            tmp_path / "loc-gowalla_totalCheckins.txt",
            "0\t2010-10-19T23:55:27Z\t30.2359091167\t-97.7951395833\t22847\n"
            "0\t2010-10-18T22:17:43Z\t30.2691029532\t-97.7493953705\t420315\n",
        )
        assert converted(log, tmp_path, "gowalla") == (
            "user_id:token\titem_id:token\ttimestamp:float\n0\t22847\t1287532527\n0\t420315\t1287440263\n"
        )

    def test_milliseconds_are_kept(self, tmp_path: Path) -> None:
        log = write(tmp_path / "a.csv", "user_id,parent_asin,rating,timestamp\nu,a,1.0,1588687728923\n")
        assert rows(converted(log, tmp_path, "amazon-2023")) == [["u", "a", "1", "1588687728.923"]]

    def test_all_are_tested(self) -> None:
        assert set(PRESETS) == {*PRESET_LOGS, "gowalla"}


def compress_zip(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/log.csv", data)


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "save"),
        [
            ("log.csv", lambda path, data: path.write_bytes(data)),
            ("log.CSV.gz", lambda path, data: path.write_bytes(gzip.compress(data))),
            ("log.csv.xz", lambda path, data: path.write_bytes(lzma.compress(data))),
            ("log.csv.zip", compress_zip),
        ],
    )
    def test_compressed_or_not(self, name: str, save: Callable[[Path, bytes], Any], tmp_path: Path) -> None:
        save(tmp_path / name, LOG.encode())
        assert converted(tmp_path / name, tmp_path) == ATOMIC

    def test_tabs(self, tmp_path: Path) -> None:
        assert converted(write(tmp_path / "log.tsv", LOG.replace(",", "\t")), tmp_path) == ATOMIC

    def test_any_separator_columns_by_position_and_windows_lines(self, tmp_path: Path) -> None:
        log = write(tmp_path / "log.txt", "100;x;i1;u1\r\n200;x;i2;u1\r\n150;x;i1;u2\r\n")
        assert converted(log, tmp_path, Layout(3, 2, 0, separator=";", header=False)) == ATOMIC

    def test_a_byte_order_mark_is_no_part_of_the_first_column(self, tmp_path: Path) -> None:
        assert converted(write(tmp_path / "log.csv", "\ufeff" + LOG), tmp_path) == ATOMIC

    def test_quoted_csv(self, tmp_path: Path) -> None:
        text = 'user_id,title,item_id,timestamp\n"a, b","one\ntwo","i1",5\n'
        assert rows(converted(write(tmp_path / "log.csv", text), tmp_path)) == [["a, b", "i1", "5"]]

    def test_unicode_ids(self, tmp_path: Path) -> None:
        text = HEADER + "Åsa,книга,1\n用户,📚 1,2\n"
        assert rows(converted(write(tmp_path / "log.csv", text), tmp_path)) == [
            ["Åsa", "книга", "1"],
            ["用户", "📚 1", "2"],
        ]

    def test_parquet(self, tmp_path: Path) -> None:
        frame = pd.DataFrame(
            {
                "user_id": pd.Series([1.0, 1.0, None, 2.0]),  # what pandas makes of whole numbers with a gap
                "item_id": pd.Series(["i1", "i2", "i1", "i1"], dtype="category"),
                "timestamp": pd.to_datetime([100, 200, 150, 150], unit="s"),
                "rating": [5, 4, 3, 2],
            }
        )
        frame.to_parquet(tmp_path / "log.parquet", engine="pyarrow")
        report = convert(tmp_path / "log.parquet", tmp_path, "p", Layout(rating="rating"))
        assert rows(report.path.read_text()) == [
            ["1", "i1", "5", "100"],
            ["1", "i2", "4", "200"],
            ["2", "i1", "2", "150"],
        ]
        assert [(bad.reason, bad.count) for bad in report.bad] == [("no user", 1)]

    def test_parquet_with_whole_numbers(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"user_id": [2**40], "item_id": [7], "timestamp": [100]})
        frame.to_parquet(tmp_path / "log.parquet", engine="pyarrow")
        assert rows(converted(tmp_path / "log.parquet", tmp_path)) == [[str(2**40), "7", "100"]]

    def test_the_layout_says_which_file_of_an_archive(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
            archive.writestr("ml-1m/users.dat", "1::F::1::10::48067\n")
            archive.writestr("ml-1m/ratings.dat", "1::1193::5::978300760\n")
        assert rows(converted(tmp_path / "ml-1m.zip", tmp_path, "movielens-dat")) == [
            ["1", "1193", "5", "978300760"]
        ]
        with pytest.raises(ConversionError, match=r"member: None .* ml-1m/users.dat, ml-1m/ratings.dat"):
            convert(tmp_path / "ml-1m.zip", tmp_path, "x", Layout(0, 2, 6, separator=":", header=False))


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("978300760", "978300760"),
            ("9.783e8", "978300000"),
            (" 978300760 ", "978300760"),
            ("978300760123", "978300760.123"),  # ms
            ("-5", "-5"),
            ("2010-10-19T23:55:27Z", "1287532527"),
            ("2010-10-19 23:55:27", "1287532527"),
            ("2010-10-19 23:55:27 UTC", "1287532527"),
            ("2010-10-19T23:55:27.5+02:00", "1287525327.5"),
            ("2010-10-19", "1287446400"),
            ("20101019T235527Z", "1287532527"),
            ("1600-01-01", "-11676096000"),
        ],
    )
    def test_are_understood(self, text: str, seconds: str, tmp_path: Path) -> None:
        log = write(tmp_path / "log.csv", HEADER + f"u,i,{text}\n")
        assert rows(converted(log, tmp_path)) == [["u", "i", seconds]]

    def test_a_stated_unit_is_believed(self, tmp_path: Path) -> None:
        log = write(tmp_path / "log.csv", HEADER + "u,i,5000\n")
        assert rows(converted(log, tmp_path, Layout(time_format="ms"))) == [["u", "i", "5"]]

    def test_milliseconds_are_no_seconds(self, tmp_path: Path) -> None:
        log = write(tmp_path / "log.csv", HEADER + "u,i,978300760123\n")
        with pytest.raises(
            ConversionError, match=r"1 left out: time is not a number of seconds.*978300760123"
        ):
            convert(log, tmp_path, "x", Layout(time_format="s"))

    @pytest.mark.parametrize("text", ["2010-02-30", "yesterday", "", "10/19/2010", "epoch", "infinity"])
    def test_what_is_no_time_is_left_out(self, text: str, tmp_path: Path) -> None:
        log = write(tmp_path / "log.csv", HEADER + f"u,i,2010-01-01\nu,j,2010-01-02\nu,k,{text}\n")
        report = convert(log, tmp_path, "x")
        assert [(bad.reason, bad.count) for bad in report.bad] == [("time is not an ISO time", 1)]
        assert report.bad[0].example == f"user 'u', item 'k', time {text!r}"

    @pytest.mark.parametrize("text", ["nan", "inf", "1e400", "12:30", "1e18", "1_000"])
    def test_what_is_no_number_is_left_out(self, text: str, tmp_path: Path) -> None:
        log = write(tmp_path / "log.csv", HEADER + f"u,i,1\nu,j,2\nu,k,{text}\n")
        report = convert(log, tmp_path, "x")
        assert [(bad.reason, bad.count) for bad in report.bad] == [("time is not a number", 1)]

    def test_the_report_tells_the_period(self, tmp_path: Path) -> None:
        report = convert(write(tmp_path / "log.csv", LOG), tmp_path, "x")
        assert (report.first, report.last) == ("1970-01-01T00:01:40Z", "1970-01-01T00:03:20Z")


class TestBadRows:
    def test_every_row_is_accounted_for(self, tmp_path: Path) -> None:
        log = write(
            tmp_path / "log.tsv",
            "user_id\titem_id\ttimestamp\trating\n"
            "u1\ti1\t1\t5\n"
            "\ti1\t2\t5\n"
            "u1\t \t3\t5\n"
            "u1\ti2\tlater\t5\n"
            "u1\ti2\t5\tgood\n"
            "u1\ti2\t6\n"
            "u1\ti2\t7\t5\textra\n"
            "\n"
            'u"1\ti2\t8\t5\n'
            "u1\ti1\t9\t4\n"
            "u1\ti3\t10\t5\n"
            "u2\ti1\t11\t5\n",
        )
        report = convert(
            log,
            tmp_path,
            "x",
            Layout(rating="rating"),
            duplicates="last",
            min_user_interactions=2,
        )
        assert {bad.reason: bad.count for bad in report.bad} == {
            "no user": 1,
            "no item": 1,
            "time is not a number": 1,
            "rating is not a number": 1,
            "user with a tab, a quotation mark or a line break": 1,
            "wrong number of columns": 2,
        }
        assert (report.duplicates, report.rare) == (1, 1)
        assert rows(report.path.read_text()) == [["u1", "i1", "4", "9"], ["u1", "i3", "5", "10"]]
        assert (report.interactions, report.users, report.items) == (2, 1, 2)
        left_out = sum(bad.count for bad in report.bad) + report.duplicates + report.rare
        assert report.rows == 11 == left_out + report.interactions
        assert "1 left out: no user, for example user '', item 'i1', time '2', rating '5'" in str(report)
        assert "2 left out: wrong number of columns, for example 'u1\\ti2\\t6' (3 instead of 4)" in str(
            report
        )

    def test_ids_that_recbole_would_take_for_missing_are_counted(self, tmp_path: Path) -> None:
        from pandas._libs.parsers import STR_NA_VALUES

        lines = [f'"{value}",i,1' for value in sorted(STR_NA_VALUES)]
        report = convert(write(tmp_path / "log.csv", HEADER + "u,i,1\n" + "\n".join(lines)), tmp_path, "x")
        assert [(bad.reason, bad.count) for bad in report.bad] == [("no user", len(STR_NA_VALUES))]

    def test_an_id_with_a_line_break_is_left_out(self, tmp_path: Path) -> None:
        report = convert(write(tmp_path / "log.csv", HEADER + 'u,i,1\nu,"i\n2",1\n'), tmp_path, "x")
        assert [bad.reason for bad in report.bad] == ["item with a tab, a quotation mark or a line break"]

    def test_many_bad_rows_among_many(self, tmp_path: Path) -> None:
        """No row gets lost between the pieces that a long file is read in."""
        lines = [f"u{n % 99},i{n % 77},{n}" + ",extra" * (n % 3 == 0) + "\n" for n in range(300_000)]
        report = convert(write(tmp_path / "log.csv", HEADER + "".join(lines)), tmp_path, "x")
        assert [(bad.reason, bad.count) for bad in report.bad] == [("wrong number of columns", 100_000)]
        assert report.bad[0].example == "'u0,i0,0,extra' (4 instead of 3)"
        assert [int(row[2]) for row in rows(report.path.read_text())] == [n for n in range(300_000) if n % 3]

    def test_a_quotation_mark_that_is_not_closed(self, tmp_path: Path) -> None:
        report = convert(write(tmp_path / "log.csv", HEADER + 'u,i,1\nu,"j"k,2\nu,k,3\n'), tmp_path, "x")
        assert [(bad.reason, bad.count) for bad in report.bad] == [
            ("a quotation mark that is not closed, or closed too early", 1)
        ]
        assert (report.rows, report.interactions) == (3, 2)

    def test_nothing_usable_says_why(self, tmp_path: Path) -> None:
        log = write(tmp_path / "log.csv", HEADER + ",i,1\n")
        with pytest.raises(ConversionError, match=r"no usable row\n1 left out: no user, for example user ''"):
            convert(log, tmp_path / "out", "x")
        assert list((tmp_path / "out").iterdir()) == []


class TestFilters:
    LOG = HEADER + "u,i,3\nu,i,1\nu,j,2\nu,i,1\nv,i,3\nv,i,3\n"

    @pytest.mark.parametrize(
        ("which", "kept"),
        [
            ("all", ["u i 3", "u i 1", "u j 2", "u i 1", "v i 3", "v i 3"]),
            ("first", ["u i 1", "u j 2", "v i 3"]),
            ("last", ["u i 3", "u j 2", "v i 3"]),
        ],
    )
    def test_duplicates(self, which: str, kept: list[str], tmp_path: Path) -> None:
        text = converted(write(tmp_path / "log.csv", self.LOG), tmp_path, duplicates=which)
        assert [" ".join(row) for row in rows(text)] == kept

    @given(
        log=st.lists(
            st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40
        ),
        which=st.sampled_from(["first", "last"]),
    )
    def test_duplicates_as_by_definition(
        self, log: list[Any], which: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        best: dict[tuple[int, int], int] = {}  # pair -> row
        for row in range(len(log)) if which == "first" else reversed(range(len(log))):
            user, item, time = log[row]
            known = best.get((user, item))
            if known is None or (time < log[known][2] if which == "first" else time > log[known][2]):
                best[user, item] = row
        assert self.kept(log, tmp_path_factory, duplicates=which) == sorted(best.values())

    @given(
        log=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40),
        minima=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    )
    def test_k_core_as_by_definition(
        self, log: list[Any], minima: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        left = list(range(len(log)))
        while True:
            users, items = (Counter(log[row][k] for row in left) for k in range(2))
            enough = [
                row for row in left if users[log[row][0]] >= minima[0] and items[log[row][1]] >= minima[1]
            ]
            if enough == left:
                break
            left = enough
        names = ("min_user_interactions", "min_item_interactions")
        assert self.kept(log, tmp_path_factory, **dict(zip(names, minima))) == left

    @staticmethod
    def kept(log: list[Any], folders: pytest.TempPathFactory, **filters: Any) -> list[int]:
        """Return the rows that are kept; each row's number is its rating."""
        folder = folders.mktemp("log")
        lines = [f"u{row[0]},i{row[1]},{row[2] if len(row) > 2 else 0},{n}" for n, row in enumerate(log)]
        path = write(folder / "log.csv", "user_id,item_id,timestamp,rating\n" + "\n".join(lines) + "\n")
        try:
            text = converted(path, folder, Layout(rating="rating"), **filters)
        except ConversionError:  # nothing is left
            return []
        return [int(row[2]) for row in rows(text)]

    def test_nothing_left_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConversionError, match="nothing is left of 3 interactions where users need 9 and items 0"
        ):
            convert(write(tmp_path / "log.csv", LOG), tmp_path, "x", min_user_interactions=9)


def test_recbole_reads_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"u {user},é{(user + step) % 9},{1000 + step}" for user in range(9) for step in range(6)]
    log = write(tmp_path / "log.csv", HEADER + "\n".join([*lines, "NA,x,1", "'q,#1,5"]) + "\n")
    report = convert(log, tmp_path / "data", "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    config = Config(
        "SASRec",
        "mine",
        config_dict={
            "data_path": str(tmp_path / "data"),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "train_neg_sample_args": None,
        },
    )
    dataset = create_dataset(config)
    counts = (dataset.inter_num, dataset.user_num - 1, dataset.item_num - 1)  # RecBole counts the padding
    assert counts == (report.interactions, report.users, report.items) == (55, 10, 10)
    assert {"u 0", "'q"} <= set(dataset.field2token_id["user_id"])


class TestWriting:
    def test_an_atomic_file_is_not_replaced_unless_told(self, tmp_path: Path) -> None:
        log = write(tmp_path / "log.csv", LOG)
        path = convert(log, tmp_path, "x").path
        write(log, HEADER + "other,i,1\n")
        with pytest.raises(FileExistsError, match=r"x\.inter exists; overwrite=True replaces it"):
            convert(log, tmp_path, "x")
        assert path.read_text() == ATOMIC
        convert(log, tmp_path, "x", overwrite=True)
        assert rows(path.read_text()) == [["other", "i", "1"]]

    def test_a_failure_leaves_everything_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = write(tmp_path / "log.csv", LOG)
        path = convert(log, tmp_path / "out", "x").path

        def full(*_: Any) -> None:
            raise OSError("No space left on device")

        monkeypatch.setattr(module, "_write", full)
        for name in ("x", "new"):
            with pytest.raises(OSError, match="No space left"):
                convert(log, tmp_path / "out", name, overwrite=True)
        assert path.read_text() == ATOMIC
        assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["x"]


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"layout": "netflix"}, "layout must be a Layout or one of movielens-dat"),
            (
                {"layout": Layout(user="uid")},
                r"log\.csv: no \(single\) column 'uid'; its columns are user_id, item_id",
            ),
            ({"layout": Layout(3, 0, 1)}, r"column 3; .* at positions 0 to 2"),
            ({"duplicates": "none"}, "duplicates must be one of all, first, last, got 'none'"),
            ({"min_user_interactions": -1}, "min_user_interactions must be a whole number from 0 on, got -1"),
            ({"min_item_interactions": "5"}, "min_item_interactions must be .*, got '5'"),
            ({"name": "a/b"}, "name must be a plain folder name .*, got 'a/b'"),
            ({"name": ""}, "name must be a plain folder name .*, got ''"),
            ({"source": "absent.csv"}, r"absent\.csv: no such file"),
            ({"source": "log.txt"}, r"log\.txt: what separates its columns is not clear"),
            ({"source": "broken.csv.gz"}, r"broken\.csv\.gz cannot be read"),
            ({"source": "damaged.csv.gz"}, r"damaged\.csv\.gz cannot be read"),
            ({"source": "latin.csv"}, r"latin\.csv cannot be read: row 2 is not UTF-8: '.*a,i,1'"),
            ({"source": "mixed.csv"}, r"mixed\.csv cannot be read: "),
            ({"source": "empty.csv"}, r"empty\.csv: its first line is empty"),
            ({"source": "twice.csv"}, r"twice\.csv: no \(single\) column 'user_id'"),
        ],
    )
    def test_name_what_is_wrong(self, arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
        write(tmp_path / "log.csv", LOG)
        write(tmp_path / "log.txt", LOG)
        write(tmp_path / "mixed.csv", HEADER + "u,i,1\r\nu,j,2\nu,k,3\n")
        write(tmp_path / "empty.csv", "")
        write(tmp_path / "twice.csv", "user_id,user_id,item_id,timestamp\nu,u,i,1\n")
        (tmp_path / "latin.csv").write_bytes(HEADER.encode() + "Åsa,i,1\n".encode("latin-1"))
        (tmp_path / "broken.csv.gz").write_bytes(gzip.compress(LOG.encode())[:20])
        damaged = bytearray(gzip.compress(np.random.default_rng(0).bytes(1000)))
        damaged[10] = 0xFF  # a kind of block that there is not
        (tmp_path / "damaged.csv.gz").write_bytes(damaged)
        source = tmp_path / arguments.pop("source", "log.csv")
        with pytest.raises(ConversionError, match=message):
            convert(source, tmp_path / "out", **{"name": "x", **arguments})
        assert not list(tmp_path.glob("out/*"))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"header": False}, "user must be a position from 0 on where there is no header, got 'user_id'"),
            ({"separator": "::"}, "separator must be one character, got '::'"),
            ({"time_format": "days"}, "time_format must be one of auto, s, ms, iso, got 'days'"),
        ],
    )
    def test_of_a_layout(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ConversionError, match=message):
            Layout(**arguments)
