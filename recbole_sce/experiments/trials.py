"""The trials of a search as files: CSV, Markdown, RecBole's result file, and a page with Optuna's plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from recbole_sce.experiments.plots import division, page
from recbole_sce.experiments.tuning import Tuning, load_study


def write_trials(
    tuning: Tuning, output_file: str | Path | None = None, display_file: str | Path | None = None
) -> dict[str, Path]:
    """Write ``trials.csv`` and ``trials.md`` into the search's folder, and a result file and a page.

    Args:
        tuning: the search.
        output_file: the result file, in the form of RecBole's ``HyperTuning.export_result``; None:
            ``hyper.result`` in the folder.
        display_file: the page; None: ``trials.html`` in the folder.

    Returns:
        What was written, by its ending (``result`` for the result file).
    """
    folder, table = tuning.folder, trials_table(tuning)
    listed = _best_first(tuning, table).to_markdown(index=False, floatfmt=".4g", missingval="")
    files = {
        "csv": (folder / "trials.csv", table.to_csv(index=False)),
        "md": (folder / "trials.md", listed + "\n"),
        "result": (Path(output_file or folder / "hyper.result"), result_text(tuning)),
        "html": (Path(display_file or folder / "trials.html"), trials_page(tuning, table)),
    }
    for path, text in files.values():
        path.write_text(text, encoding="utf-8", newline="\n")
    return {ending: path for ending, (path, _) in files.items()}


def trials_table(tuning: Tuning) -> pd.DataFrame:
    """Return one row per trial: number, status, parameters, score, valid and test metrics, costs, error."""
    rows = []
    for trial in tuning.trials:
        row = {"trial": trial["trial"], "status": trial["status"]}
        row.update({name: _text(trial["params"][name]) for name in tuning.names})
        row["score"] = trial["score"]
        row.update({f"valid_{name}": value for name, value in trial["valid"].items()})
        row.update({f"test_{name}": value for name, value in trial["test"].items()})
        row.update({key: trial[key] for key in ("epochs", "seconds", "resident_mib", "error")})
        rows.append(row)
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def result_text(tuning: Tuning) -> str:
    """Return the trials that ended by themselves in the form of RecBole's ``HyperTuning.export_result``."""
    parts = []
    for trial in tuning.trials:
        if trial["status"] == "done":
            metrics = [
                f"{title} result:\n" + "    ".join(f"{name} : {value}" for name, value in trial[key].items())
                for title, key in (("Valid", "valid"), ("Test", "test"))
            ]
            params = ", ".join(f"{name}:{_text(value)}" for name, value in trial["params"].items())
            parts.append("\n".join([params, *metrics]) + "\n\n")
    return "".join(parts)


def trials_page(tuning: Tuning, table: pd.DataFrame) -> str:
    """Return the page: the best settings, the plots, and the table."""
    best, statuses = tuning.best(), [trial["status"] for trial in tuning.trials]
    shown = _best_first(tuning, table)
    return page(
        "search.html",
        f"Search for {tuning.model} on {tuning.dataset}",
        trials=len(table),
        pruned=statuses.count("pruned"),
        failed=statuses.count("failed"),
        score=tuning.valid_metric.lower(),
        best=best,
        settings=best and ", ".join(f"{name} = {_text(value)}" for name, value in best["params"].items()),
        figures=_figures(tuning) if best else (),
        listed=Markup(shown.to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format)),
    )


def _figures(tuning: Tuning) -> list[tuple[str, Markup]]:
    """Return Optuna's plots of the study: heading and part of a page."""
    from optuna import visualization

    study, score = load_study(tuning.folder), f"validation {tuning.valid_metric.lower()}"
    figures = {
        "course": ("Course of the search", visualization.plot_optimization_history(study, target_name=score)),
        "parameters": ("Score against each parameter", visualization.plot_slice(study, target_name=score)),
    }
    if any(trial.intermediate_values for trial in study.trials):
        curves = visualization.plot_intermediate_values(study)
        figures["curves"] = ("Validation after each epoch", curves)
    return [
        (heading, division(figure.update_layout(title=None), name))
        for name, (heading, figure) in figures.items()
    ]


def _best_first(tuning: Tuning, table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns to show, the best trial first, pruned and failed ones last."""
    if table.empty:
        return table
    ranked = table.assign(_rank=table["status"].map(["done", "pruned", "failed"].index))
    ordered = ranked.sort_values(["_rank", "score"], ascending=[True, not tuning.bigger], kind="stable")
    tests = [column for column in table.columns if column.startswith("test_")]
    columns = ["trial", "status", *tuning.names, "score", *tests, "epochs", "seconds", "error"]
    shown: pd.DataFrame = ordered[columns if table["error"].notna().any() else columns[:-1]]
    return shown


def _text(value: Any) -> str:
    """Return a parameter's value as it would be written on a command line."""
    return (
        value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else json.dumps(value)
    )
