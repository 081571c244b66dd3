"""Keys of RecBole that fail late or without a name, checked as RecBole will read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recbole_sce.settings.schema import KEYS, as_whole, is_number, sentence, value_of

#: What RecBole takes where ``eval_args`` leaves a part out (``Config._set_default_parameters``).
_EVAL_ARGS = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}
_PHASES = ("valid", "test")
_LEAVE_ONE_OUT = ("valid_and_test", "valid_only", "test_only")
#: Arguments of ``torch.nn.utils.clip_grad_norm_`` beside the parameters.
_CLIP_ARGUMENTS = ("max_norm", "norm_type", "error_if_nonfinite", "foreach")


def with_whole_numbers(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with 24.0 as 24 where the default of the key is a whole number, or a list of such.

    Search spaces (``quniform``) give floats. A key whose default is no whole number is left alone.
    """
    whole = {}
    for key, value in values.items():
        default = defaults.get(key)
        if type(default) is int:
            value = as_whole(value)
        elif isinstance(default, list) and default and all(type(one) is int for one in default):
            value = [as_whole(one) for one in value] if isinstance(value, list) else as_whole(value)
        whole[key] = value
    return whole


def with_python_numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with numpy's numbers, alone or in a list, as Python's."""
    return {
        key: [_as_python(one) for one in value] if type(value) is list else _as_python(value)
        for key, value in values.items()
    }


def _as_python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def with_switches(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``values`` with True or False where the default is one and RecBole reads the value so.

    These are 1 and 0 and, in RecBole's own keys, null.
    """
    switches = dict(values)
    for key, value in values.items():
        as_null = value is None and key not in KEYS
        if type(defaults.get(key)) is bool and (as_null or (type(value) is int and value in (0, 1))):
            switches[key] = bool(value)
    return switches


def effective_eval_args(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``eval_args`` as RecBole completes them, with a mode for each of valid and test."""
    given = value_of(values, "eval_args")
    eval_args = {**_EVAL_ARGS, **(given if isinstance(given, Mapping) else {})}
    mode = eval_args["mode"]
    if isinstance(mode, Mapping):
        default = mode.get("valid", mode.get("test", "full"))
        eval_args["mode"] = {phase: mode.get(phase, default) for phase in _PHASES}
    else:
        eval_args["mode"] = dict.fromkeys(_PHASES, mode)
    return eval_args


def problems(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with keys of RecBole, as sentences without a stop; for any model.

    Keys that are absent are passed over. All of these fail in RecBole too, most of them after training.
    """
    return [
        *problems_of_metrics(values),
        *problems_of_evaluation(values),
        *problems_of_training(values),
    ]


def problems_of_a_fit(values: Mapping[str, Any]) -> list[str]:
    """Return what a training with validation fails on, for models of RecBole that are about to be trained."""
    faults = problems_of_training(values)
    every, epochs = value_of(values, "eval_step"), value_of(values, "epochs")
    validates = not (is_number(every) and every <= 0) and epochs != 0
    if validates and problem_of_valid_metric(values):
        faults.append(problem_of_valid_metric(values))
    within = is_number(every) and is_number(epochs) and 0 < every < epochs
    if within and all(epoch % every for epoch in range(1, int(epochs) + 1)):
        remedy = "no epoch would be validated, and no model saved"
        faults.append(sentence("eval_step", "a whole number", every, remedy))
    places = value_of(values, "loss_decimal_place")
    if places and not (is_number(places) and places >= 0):
        faults.append(sentence("loss_decimal_place", "a whole number of at least 0, or null", places))
    return faults


def problems_of_training(values: Mapping[str, Any]) -> list[str]:
    """Return what fails in the first epoch of training."""
    clip = value_of(values, "clip_grad_norm")
    if not clip:
        return []
    allowed = "null or a dict with max_norm, such as {max_norm: 5.0}"
    if not isinstance(clip, Mapping) or "max_norm" not in clip:
        return [sentence("clip_grad_norm", allowed, clip)]
    unknown = [str(key) for key in clip if key not in _CLIP_ARGUMENTS]
    if unknown:
        remedy = f"leave {', '.join(unknown)} out"
        return [sentence("clip_grad_norm", f"a dict of {', '.join(_CLIP_ARGUMENTS)}", clip, remedy)]
    norm = clip["max_norm"]
    if isinstance(norm, bool) or not isinstance(norm, (int, float)):
        return [sentence("clip_grad_norm", "a dict whose max_norm is a number", clip)]
    return []


def problems_of_metrics(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with ``metrics`` and ``topk``."""
    from recbole.evaluator import metric_types

    faults = []
    if "metrics" in values:
        metrics = values["metrics"]
        names = [metrics] if isinstance(metrics, str) else metrics
        if (
            not isinstance(names, (list, tuple))
            or not names
            or not all(isinstance(name, str) for name in names)
        ):
            faults.append(sentence("metrics", "a list of names of metrics", metrics))
        else:
            unknown = [name for name in names if name.lower() not in metric_types]
            if unknown:
                known = ", ".join(sorted(metric_types))
                faults.append(sentence("metrics", f"among {known} (in any case)", unknown[0]))
            elif len({metric_types[name.lower()] for name in names}) > 1:
                by_value = ", ".join(sorted(_value_metrics()))
                remedy = f"{by_value} look at scores, all others at rankings"
                faults.append(sentence("metrics", "all of one kind", metrics, remedy))
    if "topk" in values:
        topk = as_whole(values["topk"])
        cuts = topk if isinstance(topk, list) else [topk]
        if not cuts or not all(type(as_whole(k)) is int and k >= 1 for k in cuts):
            faults.append(sentence("topk", "a whole number of at least 1, or a list of such", values["topk"]))
    return faults


def computed_metrics(values: Mapping[str, Any]) -> list[str]:
    """Return the names that RecBole gives its results, in lower case, such as ndcg@10 and auc."""
    metrics, topk = values["metrics"], values["topk"]
    cuts = topk if isinstance(topk, list) else [topk]
    of_all = {"gauc", *_value_metrics()}
    names: list[str] = []
    for name in [metrics] if isinstance(metrics, str) else metrics:
        lower = name.lower()
        names += [lower] if lower in of_all else [f"{lower}@{as_whole(k)}" for k in cuts]
    return names


def problem_of_valid_metric(values: Mapping[str, Any]) -> str:
    """Return what is wrong with ``valid_metric``, '' if nothing is."""
    if not all(key in values for key in ("valid_metric", "metrics", "topk")) or problems_of_metrics(values):
        return ""
    name, computed = values["valid_metric"], computed_metrics(values)
    if str(name).lower() in computed:
        return ""
    shown = " or ".join(", ".join(computed).rsplit(", ", 1))
    return sentence("valid_metric", shown, name, "metrics and topk say what is computed")


def problems_of_evaluation(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with ``eval_args`` and ``benchmark_filename``, beside the metrics."""
    if "eval_args" not in values:
        return []
    if not isinstance(values["eval_args"], Mapping):
        return [sentence("eval_args", "a dict of split, order, group_by and mode", values["eval_args"])]
    files = value_of(values, "benchmark_filename")
    faults = []
    if files is not None:
        if (
            not isinstance(files, (list, tuple))
            or len(files) != 3
            or not all(isinstance(one, str) for one in files)
        ):
            allowed = "the names of three parts, such as [train, valid, test]"
            faults.append(sentence("benchmark_filename", allowed, files))
    else:
        faults += _of_split(effective_eval_args(values))
    return [*faults, *_of_order(values), *_of_modes(values)]


def _of_split(eval_args: Mapping[str, Any]) -> list[str]:
    split = eval_args["split"]
    if not isinstance(split, Mapping) or len(split) != 1 or next(iter(split)) not in ("RS", "LS", "TS"):
        allowed = "a dict of one of RS, LS and TS, such as {LS: valid_and_test}"
        return [sentence("eval_args split", allowed, split)]
    kind, how = next(iter(split.items()))
    if kind == "LS":
        if isinstance(how, str) and how in _LEAVE_ONE_OUT:
            return []
        return [sentence("eval_args split LS", " or ".join(_LEAVE_ONE_OUT), how)]
    numbers = isinstance(how, list) and all(is_number(ratio) and ratio >= 0 for ratio in how)
    if not numbers or len(how) != 3 or sum(how) <= 0:
        allowed = "three ratios, of training, validation and test, such as [0.8, 0.1, 0.1]"
        return [sentence(f"eval_args split {kind}", allowed, how)]
    group_by = eval_args["group_by"]
    if kind == "RS" and not (group_by in (None, "user") or str(group_by).lower() == "none"):
        return [sentence("eval_args group_by", "user or none", group_by)]
    return []


def _of_order(values: Mapping[str, Any]) -> list[str]:
    from recbole.utils import ModelType

    order = effective_eval_args(values)["order"]
    if value_of(values, "MODEL_TYPE") == ModelType.SEQUENTIAL:
        if order == "TO":
            return []
        remedy = "add order: TO to eval_args (RecBole takes RO where it is left out)"
        return [sentence("eval_args order", "TO with a sequential model", order, remedy)]
    return [] if order in ("RO", "TO") else [sentence("eval_args order", "RO or TO", order)]


def _of_modes(values: Mapping[str, Any]) -> list[str]:
    modes = effective_eval_args(values)["mode"]
    for mode in modes.values():
        if mode not in ("full", "labeled") and not _is_sampled(mode):
            allowed = "full, labeled, or uni or pop with a number of candidates, such as uni100"
            return [sentence("eval_args mode", allowed, mode)]
    if "metrics" not in values or problems_of_metrics({"metrics": values["metrics"]}):
        return []
    names = [values["metrics"]] if isinstance(values["metrics"], str) else values["metrics"]
    by_value = names[0].lower() in _value_metrics()
    shown = ", ".join(names)
    faults = []
    if by_value and "full" in modes.values():
        allowed = f"labeled, or uni or pop with a number, with metrics {shown}"
        faults.append(
            sentence("eval_args mode", allowed, "full", "these metrics look at scores, not rankings")
        )
    if not by_value and "labeled" in modes.values():
        allowed = f"full, or uni or pop with a number, with metrics {shown}"
        remedy = "labeled rows are not ranked; AUC, LogLoss, MAE and RMSE measure them"
        faults.append(sentence("eval_args mode", allowed, "labeled", remedy))
    return faults


def _is_sampled(mode: Any) -> bool:
    """Return whether RecBole reads ``mode`` as a number of sampled candidates."""
    if not isinstance(mode, str) or mode[:3] not in ("uni", "pop"):
        return False
    try:
        return int(mode[3:]) >= 1
    except ValueError:
        return False


def _value_metrics() -> set[str]:
    from recbole.evaluator import metric_types
    from recbole.utils import EvaluatorType

    return {name for name, kind in metric_types.items() if kind == EvaluatorType.VALUE}
