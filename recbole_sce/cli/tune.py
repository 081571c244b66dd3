"""``recbole-sce tune``: search hyper-parameters, each trial in a process of its own, resumable."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.resources import as_file
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from recbole_sce.cli.errors import FAILED, InputError
from recbole_sce.cli.loading import load_plugin
from recbole_sce.cli.options import DEFAULT_DATASET, DEFAULT_MODEL, ConfigFiles, Dataset, Model
from recbole_sce.cli.overrides import check_keys, parse_overrides, split_files, value_in_files
from recbole_sce.cli.progress import Progress

if TYPE_CHECKING:
    from recbole_sce.experiments import TuneEvent


def tune(
    ctx: typer.Context,
    model: Model = None,
    dataset: Dataset = None,
    params_file: Annotated[
        Path | None,
        Option("--params_file", help="Space, in RecBole's form.  [default: recbole_sce's own for the model]"),
    ] = None,
    algo: Annotated[str, Option(help="exhaustive, random or bayes.")] = "exhaustive",
    max_evals: Annotated[
        int | None, Option("--max_evals", help="Trials.  [default: all of an exhaustive search, else 100]")
    ] = None,
    config_files: ConfigFiles = None,
    out: Annotated[
        Path | None, Option("--out", "-o", help="Folder of the search.  [default: tuning-MODEL-DATASET-ALGO]")
    ] = None,
    output_file: Annotated[
        Path | None, Option("--output_file", help="Results, in RecBole's form.  [default: in --out]")
    ] = None,
    display_file: Annotated[
        Path | None, Option("--display_file", help="Page with plots.  [default: in --out]")
    ] = None,
    resume: Annotated[
        bool, Option("--resume", help="Go on with the search in --out, or work on it beside others.")
    ] = False,
    search_seed: Annotated[int, Option("--search_seed", help="Seed of the search.")] = 2020,
    pruner: Annotated[str, Option(help="What ends bad trials: median, halving or none.")] = "median",
) -> None:
    """Search hyper-parameters; the validation score decides.

    Options are those of RecBole's run_hyper.py and more. **study.log** in --out is a study of Optuna: after a
    crash, **--resume** goes on with it, and a trial that was cut off is run again. Further processes, also of
    other machines that share the folder, work on it by the same command with **--resume**. A trial that fails
    is recorded, and the search goes on. Anything else is an override, **--key=value**, for all trials.

    Writes trials.csv, trials.md, trials.html and hyper.result into --out at the end.

    Examples:
    - recbole-sce tune --epochs=5

    - recbole-sce tune --algo bayes --max_evals 30 --params_file my.hyper -d ml-1m --data_path=dataset

    - recbole-sce tune --algo random --max_evals 8 --resume --gpu_id=1
    """
    overrides, settings_files = parse_overrides(ctx.args), split_files(config_files)
    name = model or value_in_files("model", settings_files) or DEFAULT_MODEL
    data = dataset or value_in_files("dataset", settings_files) or DEFAULT_DATASET
    for option, file in (("--output_file", output_file), ("--display_file", display_file)):
        if file is not None and not file.absolute().parent.is_dir():
            raise InputError(f"{option}: the folder of {file} does not exist")

    load_plugin()
    from recbole_sce.experiments import tune as search
    from recbole_sce.experiments import write_trials
    from recbole_sce.experiments.space import read_space

    check_keys(list(overrides), name, data, settings_files)
    with as_file(_space(name, params_file)) as space, _Listener() as listener:
        check_keys(read_space(space).names, name, data, settings_files)
        tuning = search(
            name,
            data,
            params_file=space,
            algorithm=algo,
            max_evals=max_evals,
            seed=search_seed,
            pruner=pruner,
            settings=overrides,
            config_files=settings_files,
            out=out or Path(f"tuning-{name}-{data}-{algo}"),
            resume=resume,
            listener=listener,
        )
    written = write_trials(tuning, output_file, display_file)
    print(written["md"].read_text(encoding="utf-8"))
    print("\n".join(f"{what}: {written[what]}" for what in ("html", "csv", "result")))
    best = tuning.best()
    if best is None:
        print("no trial ended by itself: every one failed or was pruned")
        raise typer.Exit(FAILED)
    settings = {**overrides, **best["params"]}
    params = " ".join(f"--{key}={shlex.quote(str(value))}" for key, value in settings.items())
    print(
        f"best: trial {best['trial']}, {tuning.valid_metric.lower()} {best['score']:.4f} on validation data"
    )
    print(f"run it: recbole-sce run -m {name} -d {data} {params}")


def _space(model: str, params_file: Path | None) -> Any:
    """Return the file of the space: the user's, or the one that recbole_sce has for the model."""
    if params_file is not None:
        return params_file
    from recbole_sce.utils.properties import properties_folder

    shipped = properties_folder() / "hyper" / f"{model.lower()}.hyper"
    if not shipped.is_file():
        raise InputError(f"recbole_sce has no space for {model}: name one by --params_file")
    return shipped


class _Listener(Progress):
    """Shows the events of a search."""

    def __call__(self, event: TuneEvent) -> None:
        if event.kind == "resumed":
            self.finished(event.trial, event.of, "trials finished earlier, not repeated")
        elif event.kind == "failed":
            params = _listed(event.detail["params"])
            self.finished(event.trial + 1, event.of, f"{params}: failed: {event.detail['error']}")
        elif event.kind in ("done", "pruned"):
            detail = event.detail
            after = f", pruned after epoch {detail['epochs']}" if event.kind == "pruned" else ""
            text = f"{_listed(detail['params'])}: score {detail['score']:.4f}{after}"
            self.finished(event.trial + 1, event.of, text)
        else:
            self.running(event.trial + 1, event.of, f"trial {event.trial}", event.detail)


def _listed(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in params.items())
