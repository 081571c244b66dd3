"""What settings ask of the columns of a data set's files, checked by the first line of each file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recbole.utils import FeatureType

from recbole_sce.data.reading import read_header
from recbole_sce.settings import recbole_keys, refuse
from recbole_sce.settings.schema import as_whole, sentence

if TYPE_CHECKING:
    from recbole.config import Config

Columns = Mapping[str, FeatureType]

_TOKENS = (FeatureType.TOKEN, FeatureType.TOKEN_SEQ)
_METHODS = ("ED", "LD")


def check_columns(config: Config, of_plugin: bool) -> None:
    """Refuse settings that ask for columns which the files do not have, or not in a type that serves.

    Nothing is checked of files that are not there, such as those of a data set that is to be downloaded.

    Args:
        config: RecBole's ``Config``.
        of_plugin: whether its model is one of recbole_sce; of RecBole's own models only what they fail on
            is refused.

    Raises:
        SettingsError: a column is missing; the message names key, value and what to do.
    """
    if not os.path.isdir(config["data_path"]):
        return
    problems = _of_benchmark_files(config)
    if of_plugin:
        problems += problems_of_labels(config)
    if "selected_features" in config.internal_config_dict:
        problems += _of_features(config, of_plugin)
    if "item_attribute" in config.internal_config_dict and config["model"].startswith("S3Rec"):
        problems += _of_attribute(config)
    if of_plugin:
        problems += [*_of_numerical_features(config), *_of_ids(config), *_of_filters(config)]
        problems += [*_of_unused(config), *_of_graph(config)]
    refuse(problems)


def _path(config: Config, suffix: str) -> str:
    return os.path.join(config["data_path"], f"{config['dataset']}.{suffix}")


def _read(config: Config, suffix: str, file: str = "") -> Columns | None:
    """Return the columns that are read of the file with ``suffix``; None if there is no such file."""
    path = _path(config, file or suffix)
    if not os.path.isfile(path):
        return None
    load, unload = (_listed(config[key], suffix) for key in ("load_col", "unload_col"))
    if isinstance(config["load_col"], Mapping) and suffix not in config["load_col"]:
        load = []
    header = read_header(path, config["field_separator"], config["encoding"])
    return {
        field: kind
        for field, kind in header.items()
        if (load is None or field in load) and field not in (unload or [])
    }


def _loaded(config: Config, suffix: str, file: str = "") -> Columns | None:
    """Return the columns that a model sees: those read but ``unused_col``, which filters may use before."""
    columns = _read(config, suffix, file)
    unused = _listed(config["unused_col"], suffix) or []
    return columns and {field: kind for field, kind in columns.items() if field not in unused}


def _listed(columns: Any, suffix: str) -> list[str] | None:
    """Return what ``load_col`` or the like lists for a file; None for all, or where it says nothing."""
    listed = columns.get(suffix) if isinstance(columns, Mapping) else None
    return None if listed is None or listed == "*" else list(listed)


def _of_benchmark_files(config: Config) -> list[str]:
    files = config["benchmark_filename"]
    if not isinstance(files, (list, tuple)):
        return []
    missing = [one for one in files if not os.path.isfile(_path(config, f"{one}.inter"))]
    remedy = f"{missing and _path(config, f'{missing[0]}.inter')} does not exist"
    allowed = "the names of parts whose files exist"
    return [sentence("benchmark_filename", allowed, files, remedy)] if missing else []


def problems_of_labels(config: Config) -> list[str]:
    """Return what is missing where ``mode: labeled`` asks for labels."""
    if "labeled" not in recbole_keys.effective_eval_args(config)["mode"].values():
        return []
    if config["threshold"] is not None:
        return []
    files = config["benchmark_filename"]
    first = f"{files[0]}.inter" if isinstance(files, (list, tuple)) and files else "inter"
    columns, label = _loaded(config, "inter", first), config["LABEL_FIELD"]
    if columns is None or label in columns:
        return []
    allowed = f"the name of a column of {os.path.basename(_path(config, first))} with eval_args mode labeled"
    remedy = f"loaded are {_named(columns)}; load_col names what is, and threshold makes labels of a rating"
    return [sentence("LABEL_FIELD", allowed, label, remedy)]


def _of_features(config: Config, of_plugin: bool) -> list[str]:
    """Return what is wrong with ``selected_features``, which SASRecF, GRU4RecF and FDSA read."""
    chosen, file = config["selected_features"], os.path.basename(_path(config, "item"))
    by_user = "selected_features" in config.external_config_dict
    columns = {**(_loaded(config, "item") or {}), config["ITEM_ID_FIELD"]: FeatureType.TOKEN}
    features = {field: kind for field, kind in columns.items() if field != config["ITEM_ID_FIELD"]}
    remedy = f"loaded of {file} are {_named(features)}"
    if not os.path.isfile(_path(config, "item")):
        remedy = f"{_path(config, 'item')} does not exist"
    elif not features:
        remedy = f"load_col loads nothing of {file}: add item: [{config['ITEM_ID_FIELD']}, ...] to it"
    remedy += "" if by_user else "; RecBole's default is for ml-100k"
    if not isinstance(chosen, list) or not chosen or not all(isinstance(one, str) for one in chosen):
        return [sentence("selected_features", "a list of one or more item features", chosen, remedy)]
    missing = [one for one in chosen if one not in columns]
    if missing:
        return [sentence("selected_features", "item features that are loaded", chosen, remedy)]
    numerical = config["numerical_features"] or []
    unusable = [one for one in chosen if not _serves(config, columns[one], one in numerical)]
    ignores = config["model"] == "FDSA" and not of_plugin and len(unusable) < len(chosen)
    if unusable and not ignores:
        kinds = ", ".join(f"{one} is {columns[one].value}" for one in unusable)
        remedy = f"{kinds}; a float column serves if numerical_features names it"
        return [sentence("selected_features", "features of a type that the model reads", chosen, remedy)]
    floats = [one for one in chosen if columns[one] is FeatureType.FLOAT and one in numerical]
    if len(floats) > 1:
        remedy = f"keep one of {', '.join(floats)}: RecBole's embedding of item features joins no two"
        return [sentence("selected_features", "a list with at most one float column", chosen, remedy)]
    return []


def _serves(config: Config, kind: FeatureType, is_numerical: bool) -> bool:
    if kind in _TOKENS:
        return True
    if kind is FeatureType.FLOAT_SEQ and config["model"].startswith("SASRecF"):
        return False  # it counts a vector for each number, and makes one
    return is_numerical


def _of_attribute(config: Config) -> list[str]:
    attribute, columns = config["item_attribute"], _loaded(config, "item") or {}
    if attribute in columns and columns[attribute] in _TOKENS:
        return []
    tokens = {field: kind for field, kind in columns.items() if kind in _TOKENS}
    remedy = f"loaded are {_named(tokens)}" if tokens else "load_col: {item: [...]} loads none"
    allowed = f"a token column of {os.path.basename(_path(config, 'item'))} that is loaded"
    return [sentence("item_attribute", allowed, attribute, remedy)]


def _of_numerical_features(config: Config) -> list[str]:
    """Return what is wrong with ``numerical_features`` and ``discretization``."""
    names, buckets = config["numerical_features"] or [], config["discretization"] or {}
    if not isinstance(names, (list, tuple)) or not all(isinstance(one, str) for one in names):
        return [sentence("numerical_features", "a list of float columns", names)]
    if not isinstance(buckets, Mapping):
        return [sentence("discretization", "a dict of numerical_features", buckets)]
    columns, complete = _all_read(config)
    wrong = [one for one in names if columns.get(one, FeatureType.FLOAT) in _TOKENS]
    wrong += [one for one in names if complete and one not in columns]
    problems = []
    if wrong:
        floats = {field: kind for field, kind in columns.items() if kind not in _TOKENS}
        remedy = f"loaded are {_named(floats)}"
        problems.append(sentence("numerical_features", "float columns that are loaded", names, remedy))
    for field, how in buckets.items():
        asked: Mapping[str, Any] = how if isinstance(how, Mapping) else {}
        method, n_buckets = asked.get("method"), as_whole(asked.get("bucket"))
        counts = isinstance(n_buckets, int) and n_buckets >= 1
        if field not in names:
            allowed = f"a dict of numerical_features ({', '.join(names) or 'none'})"
            problems.append(sentence("discretization", allowed, buckets))
        elif method not in _METHODS or (method == "ED" and not counts):
            allowed = "{method: LD} or {method: ED, bucket: a whole number of at least 1}"
            problems.append(sentence(f"discretization {field}", allowed, how))
    return problems


def _all_read(config: Config) -> tuple[Columns, bool]:
    """Return the columns of interactions, users and items, and whether there can be no others."""
    columns: dict[str, FeatureType] = {}
    for suffix in ("inter", "user", "item", *(config["additional_feat_suffix"] or ())):
        columns.update(_read(config, suffix) or {})
    complete = os.path.isfile(_path(config, "inter")) and config["benchmark_filename"] is None
    return columns, complete


def _of_ids(config: Config) -> list[str]:
    """Return which files are loaded without the column that their rows are found by."""
    problems = []
    for suffix, key in (("user", "USER_ID_FIELD"), ("item", "ITEM_ID_FIELD")):
        columns = _loaded(config, suffix)
        if columns and config[key] not in columns:
            allowed = f"with {config[key]} ({key}) among the columns of {suffix}"
            problems.append(sentence("load_col", allowed, config["load_col"]))
    return problems


def _of_unused(config: Config) -> list[str]:
    """Return what is wrong with ``unused_col``, which RecBole drops before the model sees the data."""
    unused = config["unused_col"] or {}
    suffixes = ("user", "item", "kg", *(config["additional_feat_suffix"] or ()))
    loaded = ["inter", *(suffix for suffix in suffixes if _read(config, suffix))]
    unknown = [suffix for suffix in unused if suffix not in loaded]
    if unknown:
        remedy = f"no {unknown[0]} is loaded"
        return [sentence("unused_col", f"a dict of columns of {', '.join(loaded)}", unused, remedy)]
    ids = {config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]}
    if any(ids & set(fields) for fields in unused.values()):
        return [sentence("unused_col", f"without {' and '.join(sorted(ids))}", unused, "models need them")]
    return []


def _of_graph(config: Config) -> list[str]:
    """Return which columns of a knowledge graph are missing for a model that reads one."""
    if config["model"].removesuffix("SCE") not in ("GRU4RecKG", "KSR"):
        return []
    triple = ("HEAD_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "TAIL_ENTITY_ID_FIELD")
    needed = {"kg": triple, "link": ("ITEM_ID_FIELD", "ENTITY_ID_FIELD")}
    problems = []
    for suffix, keys in needed.items():
        columns = _loaded(config, suffix)
        fields = [str(config[key]) for key in keys]
        if columns is not None and not set(fields) <= set(columns):
            allowed = f"with {suffix}: [{', '.join(fields)}] for {config['model']}"
            problems.append(
                sentence("load_col", allowed, config["load_col"], f"loaded are {_named(columns)}")
            )
    return problems


def _of_filters(config: Config) -> list[str]:
    """Return which columns are filtered, normalized or renumbered that are not loaded, or of another type."""
    columns, complete = _all_read(config)
    floats = {field for field, kind in columns.items() if kind not in _TOKENS}
    intervals = {field for field, how in (config["val_interval"] or {}).items() if isinstance(how, str)}
    rules: list[tuple[str, str, set[str], set[str]]] = [
        ("val_interval", "of columns that are loaded", {*(config["val_interval"] or ())}, {*columns}),
        (
            "val_interval",
            "intervals of float columns, lists of tokens of others",
            intervals & {*columns},
            floats,
        ),
        (
            "threshold",
            "of a float column of inter that is loaded",
            {*(config["threshold"] or ())},
            floats & {*(_read(config, "inter") or ())},
        ),
        ("normalize_field", "float columns that are loaded", {*(config["normalize_field"] or ())}, floats),
        *(
            (key, "token columns that are loaded", {*(config[key] or ())}, columns.keys() - floats)
            for key in ("alias_of_user_id", "alias_of_item_id")
        ),
    ]
    return [
        sentence(key, allowed, config[key], f"loaded are {_named(columns)}")
        for key, allowed, fields, serving in rules
        if complete and not fields <= serving
    ]


def _named(columns: Columns) -> str:
    return ", ".join(f"{field} ({kind.value})" for field, kind in columns.items()) or "none"
