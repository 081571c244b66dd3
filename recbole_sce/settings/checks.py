"""The one place where settings are read, and the values that are impossible together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recbole_sce.settings import recbole_keys
from recbole_sce.settings.schema import (
    RecBoleSettings,
    SCESettings,
    SettingsError,
    as_checked,
    as_whole,
    sentence,
    single_problems,
    value_of,
)

#: What one pass over a sequence trains: the state after its last item; those after all of its items; those of
#: the items that the pass hides.
Trains = Literal["last", "all", "masked"]


@dataclass(frozen=True)
class Conflict:
    """A value that others make impossible.

    Args:
        key: the key of the value.
        message: what is wrong and what to do, a sentence without a stop.
        because: the keys of the others; none where the model itself is the reason.
    """

    key: str
    message: str
    because: tuple[str, ...] = ()


def parse_settings(values: Mapping[str, Any], trains: Trains) -> SCESettings:
    """Read and check the settings of a plugin model.

    Args:
        values: RecBole's ``Config``, or any mapping; a key that is absent takes its default.
        trains: what one pass of the model trains; ``train_positions: all`` is possible but with last.

    Returns:
        The settings, with ``train_positions`` all or last.

    Raises:
        SettingsError: a value is impossible; the message names key, value and what it must be.
    """
    refuse(find_problems(values, trains))
    own = as_checked(SCESettings, values)
    if own.get("train_positions", "auto") == "auto":
        own["train_positions"] = "last" if trains == "last" else "all"
    return SCESettings(**own)


def find_problems(values: Mapping[str, Any], trains: Trains) -> list[str]:
    """Return all that is wrong with the settings, as sentences without a stop."""
    return find_lone_problems(values) or [one.message for one in find_conflicts(values, trains)]


def find_lone_problems(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with values whatever the others are, as sentences without a stop."""
    single = {**single_problems(SCESettings, values), **single_problems(RecBoleSettings, values)}
    return [*single.values(), *recbole_keys.problems(values)]


def refuse(problems: Iterable[str]) -> None:
    """Raise the sentences as one error, if there are any.

    Raises:
        SettingsError: there is one.
    """
    text = ". ".join(problems)
    if text:
        raise SettingsError(text)


def find_conflicts(values: Mapping[str, Any], trains: Trains) -> list[Conflict]:
    """Return the values that are impossible together, of values that are possible alone."""
    return [
        *_of_positions(values, trains),
        *conflicts_of_later_targets(values, trains),
        *_of_negatives(values),
        *conflicts_of_excluding(values),
        *(conflicts_of_row_updates(values) if value_of(values, "sparse_item_updates") is True else ()),
        *_of_valid_metric(values),
        *conflicts_of_heads(values),
        *_of_decay(values),
        *_of_transform(values),
        *_of_order(values),
    ]


def _of_positions(values: Mapping[str, Any], trains: Trains) -> list[Conflict]:
    positions = value_of(values, "train_positions", "auto")
    if positions == "all" and trains == "last":
        remedy = "with train_positions all a state would see the items that it predicts"
        allowed = "last with a model that looks at later items"
        return [Conflict("train_positions", sentence("train_positions", allowed, positions, remedy))]
    transform = value_of(values, "transform")
    if transform is not None and trains != "last" and positions in ("all", "auto"):
        remedy = "a transform changes the history but not its targets"
        allowed = f"last with transform {transform}"
        return [
            Conflict(
                "train_positions", sentence("train_positions", allowed, positions, remedy), ("transform",)
            )
        ]
    return []


def conflicts_of_later_targets(values: Mapping[str, Any], trains: Trains) -> list[Conflict]:
    """Return why later items cannot be targets, if they are asked for."""
    discount = value_of(values, "target_discount", 0.0)
    if not discount:
        return []
    loss_type = value_of(values, "loss_type", "SCE")
    reasons = []
    if loss_type not in ("SCE", "auto", "CE"):
        reasons.append((f"loss_type {loss_type}", "that loss does not score all items of a row", "loss_type"))
    if loss_type in ("SCE", "auto") and not value_of(values, "complete_softmax", True):
        reason = "that loss does not score all items of a row"
        reasons.append(("complete_softmax False", reason, "complete_softmax"))
    if trains == "last":
        reasons.append(("a model that trains one position of a row", "a row then has one target", ""))
    elif trains == "masked":
        reasons.append(
            ("a model that restores masked items", "its states are of items, not of what follows", "")
        )
    elif value_of(values, "train_positions", "auto") == "last":
        reasons.append(("train_positions last", "a row then has one target", "train_positions"))
    return [
        Conflict(
            "target_discount",
            sentence("target_discount", f"0 with {what}", discount, why),
            (because,) if because else (),
        )
        for what, why, because in reasons
    ]


def _of_negatives(values: Mapping[str, Any]) -> list[Conflict]:
    negatives = value_of(values, "train_neg_sample_args")
    kind = negatives.get("distribution") if isinstance(negatives, Mapping) else negatives
    if kind in ("none", "None", None):
        return []
    remedy = "the loss chooses its negatives itself (loss_type, n_negatives)"
    return [Conflict("train_neg_sample_args", sentence("train_neg_sample_args", "null", negatives, remedy))]


def conflicts_of_excluding(values: Mapping[str, Any]) -> list[Conflict]:
    """Return under which evaluation nothing can be left out of the ranking."""
    if not value_of(values, "exclude_seen", False):
        return []
    modes = recbole_keys.effective_eval_args(values)["mode"]
    return [
        Conflict(
            "exclude_seen",
            sentence(
                "exclude_seen",
                f"False with eval_args mode {mode}",
                True,
                "RecBole then chooses the candidates itself; mode full ranks all items but those seen",
            ),
            ("eval_args",),
        )
        for mode in [mode for mode in modes.values() if mode != "full"][:1]
    ]


def conflicts_of_row_updates(values: Mapping[str, Any]) -> list[Conflict]:
    """Return what would need the gradient of every row of the item table in each step."""
    in_processes = value_of(values, "world_size") not in (None, -1, 1)
    decoupled = str(value_of(values, "learner", "adam")).lower() == "adamw"
    checks: list[tuple[str, Callable[[Any], bool], str, str]] = [
        (
            "loss_type",
            lambda value: value != "CE",
            "SCE, CE-, gBCE or BCE",
            "CE needs every item in each step",
        ),
        (
            "learner",
            lambda value: str(value).lower() in ("adam", "adamw"),
            "adam or adamw",
            "only these update single rows",
        ),
        (
            "weight_decay",
            lambda value: not value or decoupled,
            "0",
            "set learner: adamw, whose decay can wait until a row is next touched",
        ),
        ("clip_grad_norm", lambda value: not value, "null", "the norm is of dense gradients"),
        (
            "enable_scaler",
            lambda value: not (value and in_processes),
            "False in several processes",
            "each would leave out steps of its own",
        ),
    ]
    return [
        Conflict(
            key,
            sentence(key, f"{allowed} with sparse_item_updates True", values[key], why),
            ("sparse_item_updates",),
        )
        for key, accepts, allowed, why in checks
        if key in values and not accepts(values[key])
    ]


def _of_valid_metric(values: Mapping[str, Any]) -> list[Conflict]:
    message = recbole_keys.problem_of_valid_metric(values)
    return [Conflict("valid_metric", message, ("metrics", "topk"))] if message else []


def conflicts_of_heads(values: Mapping[str, Any]) -> list[Conflict]:
    """Refuse a width that attention heads cannot share, which models of RecBole refuse too."""
    width, heads = as_whole(value_of(values, "hidden_size")), as_whole(value_of(values, "n_heads"))
    if not all(isinstance(one, int) and one >= 1 for one in (width, heads)) or width % heads == 0:
        return []
    multiples = [size for size in (width - width % heads, width - width % heads + heads) if size]
    fewer = max(count for count in range(1, min(heads, width) + 1) if width % count == 0)
    remedy = (
        f"{' and '.join(map(str, multiples))} {'serve' if multiples[1:] else 'serves'}, or n_heads {fewer}"
    )
    message = sentence("hidden_size", f"a multiple of n_heads {heads}", width, remedy)
    return [Conflict("hidden_size", message, ("n_heads",))]


def _of_decay(values: Mapping[str, Any]) -> list[Conflict]:
    """Refuse decay beside regularisation with several weights, which RecBole multiplies by each other."""
    decay, weights = value_of(values, "weight_decay", 0), value_of(values, "reg_weight")
    if not decay or not isinstance(weights, (list, tuple)) or not weights:
        return []
    message = sentence("weight_decay", "0 with a model that has several reg_weight", decay)
    return [Conflict("weight_decay", message, ("reg_weight",))]


def _of_order(values: Mapping[str, Any]) -> list[Conflict]:
    """Refuse more last items (of Fossil, of HRM) than histories have."""
    length = value_of(values, "MAX_ITEM_LIST_LENGTH")
    orders = {key: value_of(values, key) for key in ("order_len", "high_order")}
    return [
        Conflict(
            key,
            sentence(key, f"at most MAX_ITEM_LIST_LENGTH {length}", order),
            ("MAX_ITEM_LIST_LENGTH",),
        )
        for key, order in orders.items()
        if isinstance(order, int) and isinstance(length, int) and order > length
    ]


#: What RecBole's transforms read besides, without a default of their own.
_OF_TRANSFORMS = {
    "mask_itemseq": ("mask_ratio",),
    "crop_itemseq": ("eta",),
    "reorder_itemseq": ("beta",),
}


def _of_transform(values: Mapping[str, Any]) -> list[Conflict]:
    transform = value_of(values, "transform")
    return [
        Conflict(
            "transform",
            sentence("transform", f"with a number {key} beside it", transform, f"set {key} to it"),
            (key,),
        )
        for key in _OF_TRANSFORMS.get(str(transform), ())
        if not isinstance(value_of(values, key), (int, float))
    ]
