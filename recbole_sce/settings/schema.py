"""Every configuration key of recbole_sce, and of RecBole those that are checked: type, bounds, meaning."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from recbole_sce.errors import RecboleSCEError

LOSS_TYPES = ("SCE", "auto", "CE", "CE-", "gBCE", "BCE")
#: What RecBole calls optimisers, but sparse_adam, which refuses the dense gradients of every encoder. RecBole
#: takes any other name for adam.
LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop")
#: The names of recipes that recbole_sce brings.
RECIPES = ("plain", "sparse", "dense")


class SettingsError(RecboleSCEError, ValueError):
    """One or more configuration values that recbole_sce cannot work with; the message names each."""


@dataclass(frozen=True)
class Allowed:
    """What a value must be, as the end of a sentence that begins with ``KEY must be``."""

    text: str


def as_whole(value: Any) -> Any:
    """Return a float that is a whole number as an int: search spaces give 24.0 for 24."""
    return int(value) if type(value) is float and value.is_integer() else value


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a finite number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def value_of(values: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Return ``values[key]``, or ``default`` where it is absent; RecBole's Config has no get()."""
    return values[key] if key in values else default  # noqa: SIM401


def _learner(name: str) -> str:
    if name.lower() not in LEARNERS:
        raise ValueError
    return name


def not_empty(path: str | Path) -> str | Path:
    """Refuse an empty path, as pydantic's validators do."""
    if not str(path):
        raise ValueError
    return path


_Whole = BeforeValidator(as_whole)
Count = Annotated[int, _Whole, Field(ge=1), Allowed("a whole number of at least 1")]
WholeNumber = Annotated[int, _Whole, Field(ge=0), Allowed("a whole number of at least 0")]
# Each layer takes memory as it is built, so that a slip of some digits would fill it without a word.
Layers = Annotated[int, _Whole, Field(ge=1, le=1000), Allowed("a whole number from 1 to 1000")]
Integer = Annotated[int, _Whole, Allowed("a whole number")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), Allowed("a number above 0")]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), Allowed("a number of at least 0")]
Fraction = Annotated[float, Field(ge=0, le=1), Allowed("a number from 0 to 1")]
BelowOne = Annotated[float, Field(ge=0, lt=1), Allowed("a number from 0 to less than 1")]
InsideUnit = Annotated[float, Field(gt=0, lt=1), Allowed("a number above 0 and below 1")]
Learner = Annotated[str, AfterValidator(_learner), Allowed(f"one of {', '.join(LEARNERS)}")]
Recipe = Annotated[
    str | Path,
    AfterValidator(not_empty),
    Allowed("auto, plain, sparse, dense or the path of a YAML file"),
]
Resumed = Annotated[str | Path, AfterValidator(not_empty), Allowed("auto or the path of a checkpoint")]


def _key(group: str, default: Any, applies_to: str, description: str) -> Any:
    return Field(
        default, description=description, json_schema_extra={"group": group, "applies_to": applies_to}
    )


class SCESettings(BaseModel):
    """Settings of an SCE model, under the names of RecBole's configuration keys; frozen."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    recipe: Recipe = _key(
        "Recipe",
        "plain",
        "",
        "Values of other keys from a named file, below everything that you set yourself. "
        "plain: RecBole's own. sparse, dense: what trains best on data of that kind. auto: dense where a "
        "user has 20 interactions or more on average and all have 500,000 or more, else sparse. A path: a "
        "YAML file of yours.",
    )

    loss_type: Literal["SCE", "auto", "CE", "CE-", "gBCE", "BCE"] = _key(
        "Loss",
        "SCE",
        "",
        "SCE: scalable cross-entropy. CE: exact over the whole catalogue, streamed. auto: CE where it costs "
        "no more than SCE, which the number of items decides, else SCE. CE-: sampled softmax. gBCE: "
        "generalised binary CE. BCE: binary CE.",
    )
    n_buckets: Count | None = _key(
        "Loss", None, "SCE", "Number of buckets. null: bucket_alpha * sqrt(N), N positions in the batch."
    )
    bucket_size_x: Count | None = _key(
        "Loss", None, "SCE", "Hidden states in a bucket. null: bucket_alpha * sqrt(N)."
    )
    bucket_size_y: Count = _key("Loss", 256, "SCE", "Items in a bucket, whose logits are computed exactly.")
    bucket_alpha: Positive = _key(
        "Loss", 2.0, "SCE", "Scale of the automatic n_buckets and bucket_size_x; larger covers more states."
    )
    mix_x: bool = _key(
        "Loss", True, "SCE", "Draw bucket centres as random mixtures of the batch's hidden states."
    )
    complete_softmax: bool = _key(
        "Loss",
        True,
        "SCE",
        "Let the softmax of a bucket also hold the items of the user's own history, and a uniform sample for "
        "all others, and train states in no bucket by these. False: SCE (paper).",
    )
    n_outside: Count = _key(
        "Loss",
        2048,
        "SCE",
        "Size of this sample, which a batch shares. Where it holds all items the softmax is exact.",
    )
    catalog_chunk: Count | None = _key(
        "Loss",
        None,
        "SCE",
        "Items scored at a time in the search for buckets. null: automatic, sized to the cache.",
    )
    n_negatives: Count = _key("Loss", 256, "CE-, gBCE, BCE", "Uniform negatives per position.")
    gbce_t: Fraction = _key("Loss", 0.75, "gBCE", "Calibration: 0 is BCE, 1 undoes the effect of sampling.")

    train_positions: Literal["auto", "all", "last"] = _key(
        "Training",
        "auto",
        "",
        "all: every position of a sequence predicts its next item, in one pass; BERT4RecSCE masks the whole "
        "sequence. last: RecBole's way, one padded prefix per row. auto: all where the model is causal (no "
        "hidden state depends on a later item) or masks, else last.",
    )
    target_discount: BelowOne = _key(
        "Training",
        0.0,
        "SCE with complete_softmax, CE; train_positions all",
        "Later items of a row are targets of a position, too: the k-th after the next one with this number "
        "to the power of k. 0: the next item alone.",
    )
    train_batch_positions: Count | None = _key(
        "Training",
        None,
        "",
        "Targets per batch, about, in the place of train_batch_size rows: with train_positions all, 2048 is "
        "as much as 2048 rows of RecBole, which train one position each. null: train_batch_size rows.",
    )
    learning_rate_schedule: Literal["constant", "linear"] = _key(
        "Training",
        "constant",
        "",
        "linear: learning_rate is reached after a twentieth of the steps of all epochs, and falls to 0 at "
        "the last. Set epochs to as many as are to be trained.",
    )
    process_timeout: Positive = _key(
        "Training", 60, "several processes", "Seconds that a step of training waits for another process."
    )
    sparse_item_updates: Literal["auto"] | bool = _key(
        "Training",
        "auto",
        "SCE, CE-, gBCE, BCE",
        "Update only the rows of the item table that a step touches; others follow before a batch that has "
        "them, and when they are ranked or saved. auto: from 100,000 items on, with learner adam or adamw.",
    )
    ema_decay: InsideUnit | None = _key(
        "Training",
        None,
        "",
        "Validate, test and keep a moving average of the weights with this decay per step, in the place of "
        "the last step's: 0.999 averages over a thousand steps, once 9,000 are done, over fewer before. "
        "Takes the weights' memory once more. null: no average.",
    )
    resume: Resumed | None = _key(
        "Training",
        None,
        "",
        "auto: go on with the newest run in checkpoint_dir of the same model, data set and settings, or "
        "begin one. A path: go on with the run of that checkpoint. null: begin anew.",
    )

    exclude_seen: bool = _key(
        "Evaluation",
        False,
        "",
        "Leave out of the ranking what the user has interacted with before; the target stays. RecBole's own "
        "sequential models take this key, too.",
    )
    eval_memory_mb: Count | None = _key(
        "Evaluation", None, "", "Most MiB for the scores of a full ranking. null: automatic."
    )
    temporal_holdout: InsideUnit | None = _key(
        "Evaluation",
        None,
        "eval_args with split LS: valid_and_test",
        "The paper's temporal split: users active from this quantile of all time stamps on are tested on "
        "what they did since, and never trained on. The paper: 0.95. null: no such split.",
    )


class RecBoleSettings(BaseModel):
    """Keys of RecBole that are checked for plugin models before data is read; any may be absent."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    train_batch_size: Count = _key(
        "Training",
        64,
        "",
        "Rows per batch: with train_positions all, sequences of up to MAX_ITEM_LIST_LENGTH items.",
    )
    train_neg_sample_args: Annotated[Any, Allowed("null")] = _key(
        "Training", None, "", "Must stay null: negatives are chosen inside the loss."
    )
    eval_batch_size: Count = _key("RecBole", None, "", "Rows per batch of evaluation.")
    epochs: WholeNumber = _key("RecBole", None, "", "Most epochs of training.")
    stopping_step: WholeNumber = _key(
        "RecBole", None, "", "Validations without a better one before training stops."
    )
    eval_step: Integer = _key("RecBole", None, "", "Epochs from one validation to the next. 0: none.")
    learner: Learner = _key("RecBole", None, "", "The optimiser.")
    learning_rate: NotNegative = _key("RecBole", None, "", "Step size of the optimiser.")
    weight_decay: NotNegative = _key(
        "RecBole", None, "", "Decay of the weights; of adamw apart from the gradient."
    )
    loss_decimal_place: WholeNumber | None = _key("RecBole", None, "", "Decimals of the loss in the log.")
    metric_decimal_place: Integer | None = _key("RecBole", None, "", "Decimals of metrics.")
    worker: WholeNumber = _key("RecBole", None, "", "Processes that make batches. 0: the training process.")
    MAX_ITEM_LIST_LENGTH: Count = _key("RecBole", None, "", "Items of a history that a model sees.")
    hidden_size: Count = _key("RecBole", None, "", "Width of hidden states.")
    inner_size: Count = _key("RecBole", None, "", "Width of feed-forward layers.")
    embedding_size: Count = _key("RecBole", None, "", "Width of item embeddings.")
    n_layers: Layers = _key("RecBole", None, "", "Layers of the encoder.")
    n_heads: Count = _key("RecBole", None, "", "Attention heads of a layer.")
    num_layers: Layers = _key("RecBole", None, "", "Layers of a recurrent encoder.")
    hidden_dropout_prob: BelowOne = _key(
        "RecBole", None, "", "Dropout of embeddings and feed-forward layers."
    )
    attn_dropout_prob: BelowOne = _key("RecBole", None, "", "Dropout of attention weights.")


KEYS = tuple(SCESettings.model_fields)
#: What a null of these keys was once read as; it is refused, and this says what serves instead.
INSTEAD_OF_NULL = {
    "train_positions": "auto stands for all positions where the model can",
    "bucket_size_y": "leave it out for 256",
    "n_outside": "leave it out for 2048",
    **dict.fromkeys(
        ("hidden_dropout_prob", "attn_dropout_prob", "weight_decay", "target_discount"),
        "leave it out, and recipe: auto sets it by the data",
    ),
}


def single_problems(schema: type[BaseModel], values: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with single values, as sentences without a stop, by key.

    Args:
        schema: :class:`SCESettings` or :class:`RecBoleSettings`.
        values: any mapping; keys that the schema does not have are passed over.
    """
    asked = {key: values[key] for key in schema.model_fields if key in values}
    try:
        schema.model_validate(asked)
    except ValidationError as error:
        return {
            key: sentence(key, must_be(schema, key), asked[key], _instead(key, asked[key]))
            for key in dict.fromkeys(str(one["loc"][0]) for one in error.errors())
        }
    return {}


def as_checked(schema: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the schema's keys, none of them impossible, with whole numbers as ints."""
    asked = {key: values[key] for key in schema.model_fields if key in values}
    parsed = schema.model_validate(asked)
    return {
        key: as_whole(value) if type(getattr(parsed, key)) is int else value for key, value in asked.items()
    }


def sentence(key: str, allowed: str, got: Any, remedy: str = "") -> str:
    """Return ``KEY must be ..., got ...``, and what to do."""
    return f"{key} must be {allowed}, got {got!r}" + (f": {remedy}" if remedy else "")


def _instead(key: str, value: Any) -> str:
    return INSTEAD_OF_NULL.get(key, "") if value is None else ""


def must_be(schema: type[BaseModel], key: str) -> str:
    """Return what a value of ``key`` must be, as the end of a sentence."""
    field = schema.model_fields[key]
    texts = [one.text for one in field.metadata if isinstance(one, Allowed)] or list(_texts(field.annotation))
    return ", or ".join(texts)


def _texts(annotation: Any) -> Iterator[str]:
    if annotation is type(None):
        yield "null"
    elif annotation is bool:
        yield "True or False"
    elif get_origin(annotation) is Annotated:
        yield next(one.text for one in get_args(annotation) if isinstance(one, Allowed))
    elif get_origin(annotation) is Literal:
        *first, last = get_args(annotation)
        yield f"{', '.join(first)} or {last}" if first else last
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _texts(part)
