"""``recbole-sce run``: train and test one model."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from recbole_sce.cli.checks import check_device, check_folders
from recbole_sce.cli.errors import InputError
from recbole_sce.cli.loading import load_plugin
from recbole_sce.cli.options import DEFAULT_DATASET, DEFAULT_MODEL, ConfigFiles, Dataset, Model
from recbole_sce.cli.overrides import check_keys, parse_overrides, split_files, value_in_files
from recbole_sce.utils.arguments import recbole_sees


def run(
    ctx: typer.Context,
    model: Model = None,
    dataset: Dataset = None,
    config_files: ConfigFiles = None,
    resume: Annotated[
        str | None,
        Option(
            metavar="[auto|PATH]",
            help="Go on with the run of checkpoint PATH, or with the newest of these settings, if any.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, Option("--json", help="Write the result here, as JSON.", metavar="FILE")
    ] = None,
    nproc: Annotated[int, Option(min=1, help="Processes of this machine.")] = 1,
    ip: Annotated[str, Option(help="Address of the master node.")] = "localhost",
    port: Annotated[str, Option(help="Port of the master node.")] = "5678",
    world_size: Annotated[int, Option("--world_size", help="Processes of all machines.")] = -1,
    group_offset: Annotated[int, Option("--group_offset", help="Rank of the first process.")] = 0,
) -> None:
    """Train a model and test it.

    Options are those of RecBole's run_recbole.py. Everything else is an override, **--key=value**, of a
    configuration key, and wins over files.

    Examples:
    - recbole-sce run

    - recbole-sce run -m GRU4RecSCE -d ml-1m --data_path=dataset --epochs=20 --bucket_size_y=512

    - recbole-sce run -m SASRecSCE -d ml-1m --resume

    - recbole-sce run -m SASRec --train_neg_sample_args=None --json sasrec.json
    """
    overrides = parse_overrides(ctx.args)
    files = split_files(config_files)
    name = model or value_in_files("model", files) or DEFAULT_MODEL
    data = dataset or value_in_files("dataset", files) or DEFAULT_DATASET
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise InputError(f"--json: the folder of {json_file} does not exist")

    load_plugin()
    from recbole.config import Config
    from recbole.quick_start import run as run_recbole

    from recbole_sce.compat.launch import last_checkpoint, layout_of
    from recbole_sce.plugin import registered_models

    if resume is not None:
        overrides["resume"] = resume
    check_keys(list(overrides), name, data, files)
    if resume is not None and name not in registered_models():
        raise InputError(
            f"--resume: {name} is RecBole's own, whose checkpoints do not hold all that a run goes on from; "
            "models of recbole_sce can be resumed (recbole-sce models lists them)"
        )
    processes: dict[str, Any] = dict(
        nproc=nproc, world_size=world_size, ip=ip, port=port, group_offset=group_offset
    )
    started = time.perf_counter()
    with recbole_sees(overrides):
        layout = layout_of(**processes)
        place = {} if layout is None else {"nproc": layout.nproc, "world_size": layout.world_size}
        # Impossible settings fail here, before any process starts.
        config = Config(name, data, config_file_list=files, config_dict=place)
        if layout is None:
            check_device(config, overrides)
        check_folders(config)
        result = run_recbole(name, data, config_file_list=files or None, **processes)
    if result is None:  # of a machine that has no process of rank 0
        return
    checkpoint = last_checkpoint()
    record = {
        "model": name,
        "dataset": data,
        "overrides": overrides,
        # RecBole's is infinite where nothing was validated, which JSON cannot say.
        "best_valid_score": float(result["best_valid_score"]) if result["best_valid_result"] else None,
        "valid_score_bigger": bool(result["valid_score_bigger"]),
        "best_valid_result": _plain(result["best_valid_result"]),
        "test_result": _plain(result["test_result"]),
        "seconds": round(time.perf_counter() - started, 3),
        "peak_memory_mib": peak_memory_mib(),
        "checkpoint": str(Path(checkpoint).absolute()) if checkpoint else None,
    }
    if json_file is not None:
        json_file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    _print(record)


def _plain(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (metrics or {}).items()}  # None: nothing to evaluate on


def _print(record: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", title=f"{record['model']} on {record['dataset']}")
    table.add_column("valid", justify="right")
    table.add_column("test", justify="right")
    valid = record["best_valid_result"]
    for name, test in record["test_result"].items():
        table.add_row(name, f"{valid.get(name, math.nan):.4f}", f"{test:.4f}")
    Console(soft_wrap=True).print(table)
    peak = ", ".join(f"{size:,.0f} MiB ({place})" for place, size in record["peak_memory_mib"].items())
    print(f"seconds: {record['seconds']:.1f}")
    print(f"peak memory: {peak}")
    if record["checkpoint"]:
        print(f"checkpoint: {record['checkpoint']}")


def peak_memory_mib() -> dict[str, float]:
    """Return the peak memory of this process and its children so far, in MiB, by place.

    ``process`` is resident memory (of the largest process); ``device`` what torch had allocated on the GPU.
    """
    import torch

    from recbole_sce.utils.memory import peak_children_mib, peak_resident_mib

    peak = {"process": round(max(peak_resident_mib(), peak_children_mib()), 1)}
    if torch.cuda.is_available():
        peak["device"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak
