"""``recbole-sce compare``: several models on one data set under one protocol, with a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from recbole_sce.cli.errors import FAILED, InputError
from recbole_sce.cli.loading import load_plugin
from recbole_sce.cli.options import DEFAULT_DATASET, ConfigFiles, Dataset, split_values
from recbole_sce.cli.overrides import check_keys, parse_overrides, split_files
from recbole_sce.cli.progress import Progress

if TYPE_CHECKING:
    from recbole_sce.experiments import Candidate, Event

DEFAULT_MODELS = "SASRecSCE,SASRec,GRU4Rec,BERT4Rec,Pop"


def compare(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None,
        Option(
            "--models",
            "--model_list",
            "-m",
            help="Separated by commas or repeated, each of the form [label=]Model[:loss].  "
            f"[default: {DEFAULT_MODELS}]",
        ),
    ] = None,
    dataset: Dataset = None,
    seeds: Annotated[
        list[str] | None,
        Option(help="Separated by commas or repeated; one run of each model each.  [default: 2020]"),
    ] = None,
    losses: Annotated[
        list[str] | None,
        Option(help="Separated by commas or repeated; for each model of recbole_sce that names no loss."),
    ] = None,
    config_files: ConfigFiles = None,
    out: Annotated[
        Path | None, Option("--out", "-o", help="Folder of the results.  [default: comparison-DATASET]")
    ] = None,
) -> None:
    """Train and test several models under one protocol and report quality, time and memory.

    Each run is a process of its own, so that its peak memory is real, and is kept as soon as it has
    finished: the same command goes on where it was interrupted, and adds models and seeds to what is there.
    Models of recbole_sce are trained with recipe plain, RecBole's own settings, so that they differ from
    their bases in loss and positions alone; **--recipe=auto** takes each model's best.
    Anything else is an override, **--key=value**, for all models, or **--label.key=value** for one.

    Writes results.csv (a row a run), summary.csv, summary.md, summary.tex (a row a model), significance.csv
    and report.html, which needs no network.

    Examples:
    - recbole-sce compare --seeds 1,2,3 --epochs=10

    - recbole-sce compare -m SASRecSCE,SASRecSCE:CE,SASRec -d amazon-beauty --SASRec.epochs=2

    - recbole-sce compare -m SASRecSCE -m wide=SASRecSCE --wide.hidden_size=256
    """
    files, overrides = split_files(config_files), parse_overrides(ctx.args)
    data = dataset or DEFAULT_DATASET
    load_plugin()
    from recbole_sce.experiments import Candidate, write_report
    from recbole_sce.experiments import compare as run_comparison

    candidates = [Candidate.parse(text) for text in split_values(models or [DEFAULT_MODELS])]
    candidates, common = _with_overrides(candidates, overrides, data, files)
    with _Listener() as listener:
        comparison = run_comparison(
            candidates,
            data,
            seeds=[_whole_number(seed) for seed in split_values(seeds or ["2020"])],
            losses=split_values(losses),
            settings=common,
            config_files=files,
            out=out or Path(f"comparison-{data}"),
            listener=listener,
        )
    report = write_report(comparison)
    print(report.with_name("summary.md").read_text(encoding="utf-8"))
    print(f"report: {report}")
    if failed := len(comparison.failed()):
        print(f"{failed} of {len(comparison.records)} runs failed; the same command tries them again")
        raise typer.Exit(FAILED)


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--seeds must be whole numbers, got {text!r}") from None


def _with_overrides(
    candidates: Sequence[Candidate], overrides: Mapping[str, str], dataset: str, files: Sequence[str]
) -> tuple[list[Candidate], dict[str, str]]:
    """Return the candidates with the overrides meant for them, and the overrides for all."""
    common: dict[str, str] = {}
    own: dict[str, dict[str, str]] = {candidate.label: {} for candidate in candidates}
    for key, value in overrides.items():
        label, dot, name = key.rpartition(".")
        if dot and label not in own:
            raise InputError(f"--{key}={value}: no model is called {label}; {', '.join(own)} are")
        (own[label] if dot else common)[name] = value
    if common and candidates:
        check_keys(list(common), candidates[0].model, dataset, files)
    for candidate in candidates:
        if own[candidate.label]:
            check_keys(list(own[candidate.label]), candidate.model, dataset, files)
    return [replace(one, settings={**one.settings, **own[one.label]}) for one in candidates], common


class _Listener(Progress):
    """Shows the events of a comparison."""

    def __call__(self, event: Event) -> None:
        name = f"{event.label}, seed {event.seed}"
        if event.kind == "skipped":
            self.finished(event.number, event.of, f"{name}: finished earlier, not repeated")
        elif event.kind == "failed":
            self.finished(event.number, event.of, f"{name}: failed: {event.detail['error']}")
        elif event.kind == "done":
            self.finished(event.number, event.of, f"{name}: {_told(event.detail)}")
        else:
            self.running(event.number, event.of, name, event.detail)


def _told(record: Mapping[str, Any]) -> str:
    test = record["metrics"]["test"]
    metric = next((name for name in test if name.startswith("ndcg")), next(iter(test)))
    return (
        f"{metric} {test[metric]:.4f}, {record['seconds']['training']:.1f} s of training, "
        f"{record['memory_mib']['resident']:,.0f} MiB"
    )
