"""The property files of recbole_sce: which one serves a data set, and those that a user calls by name."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import yaml

from recbole_sce.utils.properties import properties_folder

if TYPE_CHECKING:
    from importlib.abc import Traversable


def dataset_properties(name: str) -> Traversable | None:
    """Return the property file of data set ``name``, or None where recbole_sce has none for it.

    It is ``properties/dataset/<name>.yaml``, else the file that ``properties/dataset/_aliases.yaml`` names
    for ``name``: many data sets (all Amazon reviews, say) have the same columns and share one file.
    """
    folder = properties_folder() / "dataset"
    by_name = {file.name[: -len(".yaml")]: file for file in folder.iterdir() if file.name.endswith(".yaml")}
    del by_name["_aliases"]
    return by_name.get(name) or by_name.get(_shared_files().get(name, ""))


def model_properties(names: Iterable[str]) -> list[Traversable]:
    """Return the property files of models of recbole_sce, those read later last.

    They are ``properties/model/SCE.yaml``, of all of them, and ``properties/model/<name>.yaml`` for each of
    ``names`` that has one.
    """
    folder = properties_folder() / "model"
    return [file for file in (folder / f"{name}.yaml" for name in ("SCE", *names)) if file.is_file()]


def property_file(name: str) -> str:
    """Return the path of an installed property file, for ``config_file_list``.

    Args:
        name: of :func:`property_file_names`, as in ``paper/behance`` and ``protocol/temporal``.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in property_file_names():
        raise ValueError(
            f"{name!r} is no property file of recbole_sce; {', '.join(property_file_names())} are"
        )
    return str(properties_folder() / f"{name}.yaml")


def property_file_names() -> list[str]:
    """Return the names of the files that are not read unless a user asks for them."""
    return sorted(
        f"{folder}/{file.name[: -len('.yaml')]}"
        for folder in ("paper", "protocol")
        for file in (properties_folder() / folder).iterdir()
        if file.name.endswith(".yaml")
    )


@functools.lru_cache(maxsize=1)
def _shared_files() -> dict[str, str]:
    """Return data set -> name of the file it shares with others, as ``_aliases.yaml`` lists them."""
    text = (properties_folder() / "dataset" / "_aliases.yaml").read_text(encoding="utf-8")
    return {name: file for file, names in yaml.safe_load(text).items() for name in names}
