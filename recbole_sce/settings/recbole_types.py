"""What keys of RecBole may hold where RecBole itself fails in no key's name, or takes nonsense silently."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from recbole_sce.settings.schema import (
    Allowed,
    BelowOne,
    NotNegative,
    RecBoleSettings,
    SCESettings,
    as_whole,
    is_number,
    not_empty,
    sentence,
    single_problems,
)

#: Names that are numbers of any kind though their default is a whole one (FEARec's ``global_ratio: 1``).
_ANY_NUMBER = ("ratio", "factor", "weight")
#: Lists of numbers that a model unpacks.
_OF_FIXED_LENGTH = ("reg_weight", "dropout_probs")
_STATES = ("trace", "debug", "info", "warning", "error", "critical")


def _interval(text: str) -> str:
    """Check intervals as ``Dataset._parse_intervals_str`` reads them."""
    for part in text.split(";"):
        part = part.strip()
        left, right = (float(one) for one in part[1:-1].split(","))
        if part[0] not in "([" or part[-1] not in ")]" or not left <= right:
            raise ValueError
    return text


def _state(name: str) -> str:
    if name.lower() not in _STATES:
        raise ValueError
    return name


def _devices(numbers: Any) -> Any:
    if isinstance(numbers, bool) or not isinstance(numbers, (str, int, tuple)):
        raise ValueError
    texts = str(numbers).split(",") if isinstance(numbers, (str, int)) else [str(one) for one in numbers]
    for text in map(str.strip, texts):
        if not text.isdigit() and text not in ("", "-1") and not text.startswith(("GPU-", "MIG-")):
            raise ValueError
    return numbers


Name = Annotated[str, Field(min_length=1), Allowed("the name of a column")]
_Strings = list[str] | tuple[str, ...]
Names = Annotated[_Strings, Allowed("a list of names of columns")]
Aliases = Annotated[list[str], Allowed("a list of names of columns")]
Text = Annotated[str, Field(min_length=1), Allowed("text that is not empty")]
Folder = Annotated[str | Path, AfterValidator(not_empty), Allowed("the path of a folder")]
Intervals = Annotated[str, AfterValidator(_interval), Allowed("intervals such as '[5,inf)' or '(0,1];[3,4)'")]
# RecBole reads [20,22] of the command line as a list and (20,22) as a tuple, and turns both into text again.
Counts = Annotated[
    Intervals, BeforeValidator(lambda value: str(value) if isinstance(value, (list, tuple)) else value)
]
Seed = Annotated[
    int, BeforeValidator(as_whole), Field(ge=0, lt=2**32), Allowed("a whole number from 0 to 2**32 - 1")
]
Columns = Annotated[
    dict[str, _Strings | Literal["*"]],
    Allowed("a dict of lists of columns by file, such as {inter: [user_id, item_id, timestamp]}"),
]
Filters = Annotated[
    dict[str, Intervals | list[Any]],
    Allowed("a dict of intervals, or lists of tokens, by column, such as {rating: '[3,5]'}"),
]
Threshold = Annotated[
    dict[str, float],
    Field(min_length=1, max_length=1),
    Allowed("a dict of one column and the number from which on it counts as positive, such as {rating: 3}"),
]
State = Annotated[str, AfterValidator(_state), Allowed(f"one of {', '.join(_STATES)}")]
Devices = Annotated[Any, AfterValidator(_devices), Allowed("numbers of devices, such as '0' or '0,1'")]
Suffixes = Annotated[str | _Strings, Allowed("a list of suffixes of files")]
Weights = Annotated[dict[str, str], Allowed("a dict of columns of vectors by columns of ids")]


class DataSettings(BaseModel):
    """Keys of RecBole that say where data and results are, and how the data is read and filtered."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    seed: Seed = 0
    reproducibility: bool = True
    state: State | None = None
    gpu_id: Devices | None = "0"
    use_gpu: bool = True
    data_path: Folder = ""
    checkpoint_dir: Folder = ""
    show_progress: bool = True
    save_dataset: bool = False
    save_dataloaders: bool = False
    log_wandb: bool = False
    wandb_project: Text | None = None
    shuffle: bool = True
    enable_amp: bool = False
    enable_scaler: bool = False
    transform: (
        Literal["mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq", "user_defined"] | None
    ) = None

    USER_ID_FIELD: Name = ""
    ITEM_ID_FIELD: Name = ""
    TIME_FIELD: Name = ""
    RATING_FIELD: Name | None = None
    LABEL_FIELD: Name | None = None
    ITEM_LIST_LENGTH_FIELD: Name = ""
    POSITION_FIELD: Name | None = None
    HEAD_ENTITY_ID_FIELD: Name | None = None
    TAIL_ENTITY_ID_FIELD: Name | None = None
    RELATION_ID_FIELD: Name | None = None
    ENTITY_ID_FIELD: Name | None = None
    LIST_SUFFIX: Text = ""
    NEG_PREFIX: Text = ""
    field_separator: Text = ""
    seq_separator: Text = ""
    encoding: Text | None = None
    load_col: Columns | None = None
    unload_col: Columns | None = None
    unused_col: Columns | None = None
    additional_feat_suffix: Suffixes | None = None
    rm_dup_inter: Literal["first", "last"] | None = None
    val_interval: Filters | None = None
    filter_inter_by_user_or_item: bool = True
    user_inter_num_interval: Counts | None = None
    item_inter_num_interval: Counts | None = None
    entity_kg_num_interval: Counts | None = None
    relation_kg_num_interval: Counts | None = None
    threshold: Threshold | None = None
    normalize_field: Names | None = None
    normalize_all: bool | None = None
    numerical_features: Annotated[_Strings, Allowed("a list of float columns")] = ()
    alias_of_user_id: Aliases | None = None
    alias_of_item_id: Aliases | None = None
    alias_of_entity_id: Aliases | None = None
    alias_of_relation_id: Aliases | None = None
    preload_weight: Weights | None = None

    hidden_act: Literal["gelu", "relu", "swish", "tanh", "sigmoid"] = "gelu"
    pooling_mode: Literal["max", "mean", "sum"] = "sum"
    dropout_prob: BelowOne = 0
    initializer_range: NotNegative = 0
    layer_norm_eps: NotNegative = 0


#: Keys that are checked elsewhere, or whose values may be of several kinds.
_CHECKED = {
    *SCESettings.model_fields,
    *RecBoleSettings.model_fields,
    *DataSettings.model_fields,
    "topk",
}


def problems_of_types(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with keys of RecBole, as sentences without a stop.

    A key of no schema, such as those of an encoder, must be of the kind of its default.

    Args:
        values: by key.
        defaults: RecBole's values, and those of the property files.
    """
    problems = list(single_problems(DataSettings, values).values())
    defaults = {"reg_weight": 0.0, **defaults}  # RecBole's trainer multiplies it, whatever the model
    for key in values.keys() & defaults.keys() - _CHECKED:
        allowed, accepts = _rule_of(key, defaults[key])
        if not accepts(values[key]):
            problems.append(sentence(key, allowed, values[key]))
    return problems


def _rule_of(key: str, default: Any) -> tuple[str, Callable[[Any], bool]]:
    """Return what a value beside this default must be, as the end of a sentence, and the check of it."""
    if isinstance(default, bool):
        return "True or False", lambda value: isinstance(value, bool)
    if isinstance(default, int) and not key.endswith(_ANY_NUMBER):
        return "a whole number", lambda value: is_number(value) and isinstance(as_whole(value), int)
    if isinstance(default, (int, float)):
        return "a number", is_number
    if isinstance(default, list) and default and all(is_number(one) for one in default):
        length = len(default) if key in _OF_FIXED_LENGTH else None
        return (
            f"a list of {'' if length is None else f'{length} '}numbers",
            lambda value: (
                isinstance(value, (list, tuple))
                and bool(value)
                and length in (None, len(value))
                and all(is_number(one) for one in value)
            ),
        )
    if isinstance(default, str) and default != "None":
        return "text", lambda value: isinstance(value, (str, Path))
    return "anything", lambda value: True
