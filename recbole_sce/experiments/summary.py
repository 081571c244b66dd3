"""From the runs of a comparison to tables: one row a run, one row a candidate, one row a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from recbole_sce.experiments.comparison import Comparison

#: Below this a difference counts as significant.
LEVEL = 0.05
#: What a run costs: column, where it is in a record, heading, unit.
COSTS = (
    ("training_seconds", "seconds.training", "training", "s"),
    ("seconds_to_best", "seconds.to_best", "to best epoch", "s"),
    ("seconds_per_epoch", "seconds.epoch", "per epoch", "s"),
    ("epochs", "epochs", "epochs", ""),
    ("resident_mib", "memory_mib.resident", "peak resident", "MiB"),
    ("device_mib", "memory_mib.device", "peak on device", "MiB"),
    ("parameters", "parameters", "parameters", ""),
)


def metric_names(comparison: Comparison) -> list[str]:
    """Return the test metrics of the comparison, in RecBole's order, the first k first."""
    done = comparison.done()
    return list(done[0]["metrics"]["test"]) if done else []


def is_bigger_better(metric: str) -> bool:
    """Return whether a larger value of ``metric`` (``ndcg@10``) is a better one, as RecBole says."""
    from recbole.evaluator.register import smaller_metrics

    return metric.split("@")[0].lower() not in smaller_metrics


def main_metric(comparison: Comparison) -> str:
    """Return the metric to plot: ndcg at the first k if there is one, else the first."""
    names = metric_names(comparison)
    return next((name for name in names if name.startswith("ndcg")), names[0])


def recipes_in_words(comparison: Comparison) -> str:
    """Return which recipe the models of recbole_sce were trained with; '' if there are none."""
    recipes = {record["label"]: record.get("recipe") for record in comparison.records}
    named = {label: recipe for label, recipe in recipes.items() if recipe is not None}
    if not named:
        return ""
    if set(named.values()) == {"plain"}:
        return "models of recbole_sce trained with recipe plain, RecBole's own settings"
    return "recipes: " + ", ".join(f"{label} {recipe}" for label, recipe in named.items())


def runs_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row a run: what it is, status, test metrics, costs, valid metrics, error."""
    metrics = metric_names(comparison)
    places = {key: key for key in ("label", "model", "loss_type", "recipe", "seed", "status")}
    places |= {name: f"metrics.test.{name}" for name in metrics}
    places |= {column: place for column, place, _, _ in COSTS}
    places |= {"best_epoch": "best_epoch", "whole_seconds": "seconds.whole"}
    places |= {f"valid_{name}": f"metrics.valid.{name}" for name in metrics}
    places["error"] = "error"
    flat = pd.json_normalize(comparison.records)
    table: pd.DataFrame = flat.reindex(columns=list(places.values())).set_axis(list(places), axis=1)
    return table


def summary_table(comparison: Comparison) -> pd.DataFrame:
    """Return one row a candidate: runs, failed runs, mean and standard deviation over seeds of each figure.

    Columns are ``<figure>`` for the mean and ``<figure>_std`` for the (sample) standard deviation, NaN for a
    single run.
    """
    runs = runs_table(comparison)
    figures = [*metric_names(comparison), *(column for column, *_ in COSTS)]
    labels = runs["label"]
    statuses = pd.crosstab(labels, runs["status"]).reindex(columns=["done", "failed"], fill_value=0)
    numbers = runs[figures].apply(pd.to_numeric, errors="coerce").groupby(labels).agg(["mean", "std"])
    numbers.columns = [figure + ("_std" if kind == "std" else "") for figure, kind in numbers.columns]
    table = statuses.set_axis(["runs", "failed"], axis=1).join(numbers)
    ordered: pd.DataFrame = table.loc[labels.unique()].reset_index()
    return ordered


def best_labels(summary: pd.DataFrame, metric: str) -> list[str]:
    """Return the candidates with the best mean of ``metric``."""
    means = summary.set_index("label")[metric].dropna()
    best = means.max() if is_bigger_better(metric) else means.min()
    return [str(label) for label in means.index[means == best]]


def significance_table(comparison: Comparison) -> pd.DataFrame:
    """Test, for each metric, the best candidate against each other: one row a pair.

    Paired two-sided t-test (``scipy.stats.ttest_rel``) with one pair a test user: the user's values averaged
    over the seeds of each candidate. Differences are best minus other. ``p_holm`` is the p-value after Holm's
    correction for the number of candidates that the best one is compared with. The test speaks about other
    users of the same kind, not about other seeds.
    """
    from scipy import stats

    labels = dict.fromkeys(record["label"] for record in comparison.done())
    users = {label: _by_user(comparison, label) for label in labels}
    summary = summary_table(comparison)
    rows: list[dict[str, Any]] = []
    for metric in metric_names(comparison):
        best = [label for label in best_labels(summary, metric) if metric in users[label]][:1]
        others = [label for label in users if label not in best and metric in users[label]]
        if not best or not others:
            continue
        tests = []
        for other in others:
            pairs = pd.concat([users[best[0]][metric], users[other][metric]], axis=1, join="inner").to_numpy()
            difference = pairs[:, 0] - pairs[:, 1]
            row = {"metric": metric, "best": best[0], "other": other, "users": len(difference)}
            row["difference"] = difference.mean()
            if len(difference) < 2 or np.ptp(difference) == 0:
                statistic, p = float("nan"), 1.0 if not np.any(difference) else float("nan")
                low = high = row["difference"]
            else:
                test = stats.ttest_rel(pairs[:, 0], pairs[:, 1])
                statistic, p = float(test.statistic), float(test.pvalue)
                low, high = test.confidence_interval(0.95)
            tests.append({**row, "low_95": low, "high_95": high, "t": statistic, "p": p})
        for row, corrected in zip(tests, holm([row["p"] for row in tests])):
            rows.append({**row, "p_holm": corrected})
    columns = ["metric", "best", "other", "users", "difference", "low_95", "high_95", "t", "p", "p_holm"]
    table: pd.DataFrame = pd.DataFrame(rows, columns=columns)
    return table


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values after Holm's correction (1979): step-down, never above 1, NaN stays NaN."""
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full_like(p, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    ordered = known[np.argsort(p[known], kind="stable")]
    steps = p[ordered] * np.arange(len(ordered), 0, -1)
    corrected[ordered] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in corrected]


def _by_user(comparison: Comparison, label: str) -> pd.DataFrame:
    """Return one row a user and one column a metric, averaged over the seeds of a candidate."""
    own = [record for record in comparison.done() if record["label"] == label]
    tables = [pd.DataFrame(comparison.user_values(record)) for record in own]
    means: pd.DataFrame = pd.concat(tables).groupby("users").mean()
    return means
