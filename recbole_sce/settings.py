"""What a user sets of the loss and of training, read once from RecBole's configuration and checked."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Optional

LOSS_TYPES = ("SCE", "auto", "CE", "CE-", "gBCE", "BCE")
TRAIN_POSITIONS = ("all", "last")


class SettingsError(ValueError):
    """One or more configuration values that recbole_sce cannot work with; the message names each."""


@dataclass(frozen=True)
class SCESettings:
    """Settings of an SCE model, under the names of RecBole's configuration keys.

    The keys are explained where a RecBole user looks for them: ``properties/model/SCE.yaml``.
    """

    loss_type: str = "SCE"
    n_buckets: Optional[int] = None
    bucket_size_x: Optional[int] = None
    bucket_size_y: int = 256
    bucket_alpha: float = 2.0
    mix_x: bool = True
    complete_softmax: bool = True
    n_outside: int = 2048
    catalog_chunk: Optional[int] = None
    n_negatives: int = 256
    gbce_t: float = 0.75
    train_positions: str = "all"
    target_discount: Optional[float] = 0.0  # None until a model has chosen by the data
    exclude_seen: bool = False
    eval_memory_mb: Optional[int] = None
    sparse_item_updates: bool = False
    ema_decay: Optional[float] = None
    resume: Optional[str] = None

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], causal: bool, chosen_by_data: Sequence[str] = ()
    ) -> SCESettings:
        """Read and check the settings.

        Args:
            config: RecBole's ``Config``, or any mapping; a key that is absent takes its default.
            causal: whether the model's hidden state at a position depends on no later item, so that
                ``train_positions: all`` is possible.
            chosen_by_data: keys that may be null, since the model then chooses by the data.

        Raises:
            SettingsError: a value is impossible; the message names key, value and what is allowed.
        """
        given = {f.name: config[f.name] for f in fields(cls) if f.name in config}
        if given.get("train_positions") is None:
            given["train_positions"] = "all" if causal else "last"
        problems = [
            f"{key}: {value!r} is not allowed; {rule.allowed}"
            for key, value in given.items()
            for rule in [_RULES[key]]
            if not rule.accepts(value)
            if not (key in chosen_by_data and value is None)
        ]
        problems += [
            f"{key}: {config[key]!r} is not allowed; {rule.allowed}"
            for key, rule in _RECBOLES_RULES.items()
            if key in config and not rule.accepts(config[key])
            if not (key in chosen_by_data and config[key] is None)
        ]
        problems += _unknown_valid_metric(config)
        if not problems and not causal and given["train_positions"] == "all":
            problems.append(
                "train_positions: 'all' is not allowed; this model looks at later items, so it can only be "
                "trained with train_positions: last"
            )
        # RecBole's Config has no get().
        negatives = config["train_neg_sample_args"] if "train_neg_sample_args" in config else None  # noqa: SIM401
        kind = negatives.get("distribution") if isinstance(negatives, Mapping) else negatives
        if kind not in ("none", "None", None):
            problems.append(
                f"train_neg_sample_args: {negatives!r} is not allowed; it must be null, since this model "
                "chooses its negatives inside the loss (loss_type, n_negatives)"
            )
        if not problems and given.get("target_discount"):
            problems += [
                f"target_discount: {given['target_discount']!r} is not allowed; {conflict}"
                for conflict in conflicts_of_later_targets(given, causal)
            ]
        if given.get("exclude_seen") is True:
            problems += _conflicts_of_excluding(config)
        if given.get("sparse_item_updates") is True:
            problems += _conflicts_of_sparse_updates(config)
        if problems:
            raise SettingsError("; ".join(problems))
        return cls(**given)


def _unknown_valid_metric(config: Mapping[str, Any]) -> list[str]:
    if not all(key in config for key in ("valid_metric", "metrics", "topk")):
        return []
    metrics, topk = config["metrics"], config["topk"]
    name, _, k = str(config["valid_metric"]).partition("@")
    if name.lower() in [str(metric).lower() for metric in metrics] and (not k or k in map(str, topk)):
        return []
    return [
        f"valid_metric: {config['valid_metric']!r} is not allowed; one of metrics ({', '.join(metrics)}), if "
        f"it looks at the first of a ranking with @ and one of topk ({', '.join(map(str, topk))}), is"
    ]


def conflicts_of_later_targets(config: Mapping[str, Any], causal: bool) -> list[str]:
    """Return why later items cannot be targets, as the ends of sentences.

    Args:
        config: RecBole's ``Config``, or any mapping; a key that is absent has its default.
        causal: as of :meth:`SCESettings.from_config`.
    """
    said = {key: config[key] for key in ("loss_type", "complete_softmax", "train_positions") if key in config}
    loss_type = said.get("loss_type", "SCE")
    conflicts = []
    if loss_type not in ("SCE", "auto", "CE"):
        conflicts.append(f"with loss_type: {loss_type!r} 0 is, since it does not score all items of a row")
    if loss_type in ("SCE", "auto") and not said.get("complete_softmax", True):
        conflicts.append("with complete_softmax: False 0 is, since that does not score all items of a row")
    if not causal:
        conflicts.append("with this model 0 is, since it trains one position of a row")
    elif said.get("train_positions") == "last":
        conflicts.append("with train_positions: 'last' 0 is, since a row then has one target")
    return conflicts


def _conflicts_of_excluding(config: Mapping[str, Any]) -> list[str]:
    modes = (config["eval_args"] or {}).get("mode", "full") if "eval_args" in config else "full"
    sampled = [mode for mode in (modes.values() if isinstance(modes, dict) else [modes]) if mode != "full"]
    return [
        f"exclude_seen: True is not allowed with eval_args: mode: {mode!r}, which chooses its own "
        "candidates; it is with mode: full"
        for mode in sampled[:1]
    ]


def _conflicts_of_sparse_updates(config: Mapping[str, Any]) -> list[str]:
    """Return what would need the gradient of every row of the item table in each step."""
    allowed: dict[str, tuple[Callable[[Any], bool], str]] = {
        "loss_type": (
            lambda value: value != "CE",
            "it needs every item in each step; SCE, CE-, gBCE, BCE do not",
        ),
        "learner": (
            lambda value: str(value).lower() in ("adam", "adamw"),
            "adam is, and adamw, which is the same without decay",
        ),
        "weight_decay": (lambda value: not value, "0 is: decay changes every row in each step"),
        "clip_grad_norm": (lambda value: not value, "null is: the norm is of dense gradients"),
    }
    if "world_size" in config and config["world_size"] not in (None, -1, 1):
        allowed["enable_scaler"] = (
            lambda value: not value,
            "in several processes False is: each would leave out steps of its own",
        )
    return [
        f"{key}: {config[key]!r} is not allowed with sparse_item_updates: True; {reason}"
        for key, (accepts, reason) in allowed.items()
        if key in config and not accepts(config[key])
    ]


@dataclass(frozen=True)
class _Rule:
    accepts: Callable[[Any], bool]
    allowed: str


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_COUNT = _Rule(_is_count, "a whole number of at least 1 is")
_WHOLE_NUMBER = _Rule(lambda value: value == 0 or _is_count(value), "a whole number of at least 0 is")
_COUNT_OR_AUTO = _Rule(
    lambda value: value is None or _is_count(value), "a whole number of at least 1, or null for automatic, is"
)

_BELOW_ONE = _Rule(
    lambda value: _is_number(value) and 0 <= value < 1,
    "a number from 0 to less than 1 is, or, with SASRecSCE, null (None on the command line) for automatic",
)
_TRUE_OR_FALSE = _Rule(lambda value: isinstance(value, bool), "true or false is")


def _one_of(names: Iterable[str]) -> _Rule:
    allowed = tuple(names)
    return _Rule(lambda value: value in allowed, f"one of {', '.join(allowed)} is")


_RULES: dict[str, _Rule] = {
    "loss_type": _one_of(LOSS_TYPES),
    "n_buckets": _COUNT_OR_AUTO,
    "bucket_size_x": _COUNT_OR_AUTO,
    "bucket_size_y": _COUNT,
    "bucket_alpha": _Rule(lambda value: _is_number(value) and value > 0, "a number above 0 is"),
    "mix_x": _TRUE_OR_FALSE,
    "complete_softmax": _TRUE_OR_FALSE,
    "n_outside": _COUNT,
    "catalog_chunk": _COUNT_OR_AUTO,
    "n_negatives": _COUNT,
    "gbce_t": _Rule(lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1 is"),
    "train_positions": _one_of(TRAIN_POSITIONS),  # null is resolved before
    "target_discount": _BELOW_ONE,
    "exclude_seen": _TRUE_OR_FALSE,
    "eval_memory_mb": _COUNT_OR_AUTO,
    "sparse_item_updates": _TRUE_OR_FALSE,
    "ema_decay": _Rule(
        lambda value: value is None or (_is_number(value) and 0 < value < 1),
        "a number above 0 and below 1, or null (None on the command line) for no average, is",
    ),
    "resume": _Rule(
        lambda value: value is None or (isinstance(value, (str, os.PathLike)) and os.fspath(value) != ""),
        "auto, the path of a checkpoint, or null is",
    ),
}
#: Of keys that RecBole itself checks late, or in words that do not name them.
_RECBOLES_RULES: dict[str, _Rule] = {
    "train_batch_size": _COUNT,
    "eval_batch_size": _COUNT,
    "MAX_ITEM_LIST_LENGTH": _COUNT,
    "epochs": _WHOLE_NUMBER,
    "stopping_step": _WHOLE_NUMBER,
    "learning_rate": _Rule(lambda value: _is_number(value) and value >= 0, "a number of at least 0 is"),
    "weight_decay": _Rule(
        lambda value: _is_number(value) and value >= 0,
        "a number of at least 0 is, or, with SASRecSCE, null (None on the command line) for automatic",
    ),
    "hidden_dropout_prob": _BELOW_ONE,
    "attn_dropout_prob": _BELOW_ONE,
}
