"""Which property file a data set reads."""

from __future__ import annotations

import pytest

from recbole_sce.data.properties import dataset_properties


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ml-1m", "ml-1m.yaml"),
        ("ml-20m", "ml-1m.yaml"),
        ("amazon-beauty", "amazon-beauty.yaml"),  # a file of its own goes before the family's
        ("amazon-books", "amazon-reviews.yaml"),
        ("amazon-kindle-store-18", "amazon-reviews.yaml"),
        ("gowalla-not-merged", "gowalla-merged.yaml"),
        ("ml-100k", None),  # RecBole's own file is left alone
        ("my-shop", None),
        ("_aliases", None),  # the list is no data set
        ("../model/SCE", None),
    ],
)
def test_the_file_of_a_data_set(name: str, file: str | None) -> None:
    path = dataset_properties(name)
    assert (None if path is None else path.name) == file
    assert path is None or path.is_file()
