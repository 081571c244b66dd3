from __future__ import annotations

import numpy as np
import pytest
from recbole.utils import FeatureType

from recbole_sce.data import reading as atomic
from recbole_sce.data.reading import read_columns, read_header

COLUMNS = {"user_id": FeatureType.TOKEN, "time": FeatureType.FLOAT}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "log.inter"
    path.write_text("user_id:token\tother:float\ttime:float\nb\t1\t3\na\t2\t\n\t3\t1600000030.5\nb\t4\t0.1\n")
    return str(path)


@pytest.mark.parametrize("chunk_rows", [2, 1000])
def test_columns_are_read_in_the_order_of_the_file(path, chunk_rows, monkeypatch):
    monkeypatch.setattr(atomic, "CHUNK_ROWS", chunk_rows)
    table = read_columns(path, COLUMNS, "\t", "utf-8")
    assert list(table.columns) == ["user_id", "time"]
    assert table["user_id"].tolist() == ["b", "a", np.nan, "b"]
    assert table["user_id"].dtype == "category"
    np.testing.assert_array_equal(table["time"], [3, np.nan, 1600000030.5, 0.1])


def test_numbers_as_tokens_stay_as_they_are_written(tmp_path):
    path = tmp_path / "log.inter"
    path.write_text("user_id:token\n007\n7\n")
    table = read_columns(str(path), {"user_id": FeatureType.TOKEN}, "\t", "utf-8")
    assert table["user_id"].tolist() == ["007", "7"]


def test_a_file_of_column_names_only(tmp_path):
    path = tmp_path / "log.inter"
    path.write_text("user_id:token\ttime:float\n")
    assert len(read_columns(str(path), COLUMNS, "\t", "utf-8")) == 0


def test_text_in_a_float_column_names_the_file(tmp_path):
    path = tmp_path / "log.inter"
    path.write_text("user_id:token\ttime:float\na\tyesterday\n")
    with pytest.raises(ValueError, match=r"log\.inter cannot be read: .*yesterday"):
        read_columns(str(path), COLUMNS, "\t", "utf-8")


def test_header(path):
    assert read_header(path, "\t", "utf-8") == {**COLUMNS, "other": FeatureType.FLOAT}


@pytest.mark.parametrize("head", ["", "user_id", "user_id:token,time:float", "user_id:string"])
def test_bad_header_names_file_and_column(tmp_path, head):
    path = tmp_path / "log.inter"
    path.write_text(head + "\n")
    with pytest.raises(ValueError, match=r"log\.inter: '.*' in the first line is not name:type"):
        read_header(str(path), "\t", "utf-8")
