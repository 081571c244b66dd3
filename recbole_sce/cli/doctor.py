"""``recbole-sce doctor``: what is installed, what is patched, where data is searched."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

import recbole_sce
from recbole_sce.cli.loading import load_package, load_plugin
from recbole_sce.utils import requirements
from recbole_sce.utils.requirements import RECBOLE

#: What every command needs.
_REQUIRED = ("recbole", "torch", "numpy", "pandas", "scipy")
#: Optional packages, and what for.
_OPTIONAL = {
    "optuna": "recbole-sce tune",
    "hyperopt": "RecBole's HyperTuning",
    "ray": "Ray Tune",
    "duckdb": "convert",
    "pyarrow": "Parquet from recommend",
    "faiss-cpu": "recommend --faiss",
    "plotly": "plots of tuning and comparing",
    "tensorboard": "TensorBoard logs",
}


def doctor(
    data_path: Annotated[
        Path | None, Option("--data_path", help="Folder of data sets.  [default: RecBole's]", metavar="DIR")
    ] = None,
    fix: Annotated[
        bool, Option("--fix", help="Install what every command needs and this Python lacks.")
    ] = False,
) -> None:
    """Show versions, devices, the patches of RecBole in force, and where data sets are searched.

    Exit code 1 if something that every command needs is missing.

    Examples:
    - recbole-sce doctor --data_path dataset
    - recbole-sce doctor --fix
    """
    load_package()
    if fix:
        for name in _missing():
            requirements.install(name)
        importlib.invalidate_caches()
    print("Versions")
    _line("Python", f"{platform.python_version()} ({sys.executable})")
    _line("recbole_sce", recbole_sce.__version__)
    for name in _REQUIRED:
        _line(name, _found(name))
    print("\nOptional")
    for name, purpose in _OPTIONAL.items():
        _line(name, f"{_found(name)}  ({purpose})")
    if missing := _missing():
        print(f"\n{', '.join(missing)} missing; recbole-sce doctor --fix installs what every command needs.")
        raise typer.Exit(1)
    print("\nDevices")
    _devices()
    if requirements.installed("recbole") != RECBOLE:
        print(f"\nrecbole_sce is made for RecBole {RECBOLE}; another release may behave otherwise.")
    print("\nPatches of RecBole in force")
    _patches()
    print("\nData sets")
    _data_sets(data_path)


def _line(name: str, value: str) -> None:
    print(f"  {name:14}{value}")


def _found(package: str) -> str:
    return requirements.installed(package) or f"missing: {requirements.install_line(package)}"


def _missing() -> list[str]:
    return [name for name in _REQUIRED if requirements.installed(name) is None]


def _devices() -> None:
    import torch

    _line("CPU", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        _line("CUDA", "none")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        _line(f"cuda:{number}", f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB")


def _patches() -> None:
    load_plugin()
    from recbole_sce import compat

    active = compat.active()
    width = max((len(patch.name) for patch in active), default=0)
    for patch in active:
        print(f"  {patch.name:{width}}  {patch.purpose} Needed: {patch.needed}.")


def _data_sets(data_path: Path | None) -> None:
    import recbole
    import yaml

    root = Path(recbole.__file__).parent
    if data_path is None:
        overall = (root / "properties" / "overall.yaml").read_text(encoding="utf-8")
        data_path = Path(yaml.safe_load(overall)["data_path"])
    folder = data_path.absolute()
    datasets = sorted(path.parent.name for path in folder.glob("*/*.inter") if path.stem == path.parent.name)
    _line("data_path", f"{folder} ({'exists' if folder.is_dir() else 'does not exist'})")
    _line("found there", ", ".join(datasets) or "none")
    _line("with RecBole", f"ml-100k ({root / 'dataset_example' / 'ml-100k'})")
