"""``recbole-sce doctor``: what is installed, what is repaired, where data is searched."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Optional

import typer

from recbole_sce.cli.loading import load_plugin

#: The release of RecBole that the plugin is made for.
RECBOLE = "1.2.1"
_PACKAGES = ("recbole_sce", "recbole", "torch", "numpy", "pandas", "scipy")
#: Optional packages: what for, and how to get them.
_OPTIONAL = {
    "optuna": ("recbole-sce tune", "pip install 'recbole_sce[tune]'"),
    "hyperopt": ("RecBole's HyperTuning", "pip install 'recbole_sce[hyperopt]'"),
    "ray": ("Ray Tune", "pip install 'recbole_sce[ray]' (Python up to 3.11)"),
    "duckdb": ("convert", "pip install 'recbole_sce[convert]'"),
    "pyarrow": ("Parquet from recommend", "pip install 'recbole_sce[parquet]'"),
    "faiss-cpu": ("recommend --faiss", "pip install 'recbole_sce[faiss]'"),
    "plotly": ("plots of tuning and comparing", "pip install plotly"),
    "tensorboard": ("TensorBoard logs", "pip install tensorboard"),
}


def doctor(
    data_path: Annotated[
        Optional[Path],
        typer.Option("--data_path", help="Folder of data sets.  [default: RecBole's]", metavar="DIR"),
    ] = None,
) -> None:
    """Show versions, devices, the repairs of RecBole in force, and where data sets are searched.

    Exit code 1 if something that every command needs is missing.

    Example:
    - recbole-sce doctor --data_path dataset
    """
    print("Versions")
    _line("Python", f"{platform.python_version()} ({sys.executable})")
    for name in _PACKAGES:
        _line(name, _version(name) or "missing")
    print("\nOptional")
    for name, (purpose, how) in _OPTIONAL.items():
        _line(name, f"{_version(name) or 'missing: ' + how}  ({purpose})")
    print("\nDevices")
    _devices()
    if _version("recbole") is None:
        print(f"\nRecBole is missing, so only the losses work: pip install recbole=={RECBOLE}")
        raise typer.Exit(1)
    if _version("recbole") != RECBOLE:
        print(f"\nrecbole_sce is made for RecBole {RECBOLE}; another release may behave otherwise.")
    print("\nRepairs of RecBole in force")
    _repairs()
    print("\nData sets")
    _data_sets(data_path)


def _line(name: str, value: str) -> None:
    print(f"  {name:14}{value}")


def _version(package: str) -> Optional[str]:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> None:
    import torch

    _line("CPU", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        _line("CUDA", "none")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        _line(f"cuda:{number}", f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB")


def _repairs() -> None:
    load_plugin()
    from recbole_sce import compat

    active = compat.active()
    width = max((len(name) for name, _ in active), default=0)
    for name, what in active:
        print(f"  {name:{width}}  {what}")


def _data_sets(data_path: Optional[Path]) -> None:
    import recbole
    import yaml

    root = Path(recbole.__file__).parent
    if data_path is None:
        overall = (root / "properties" / "overall.yaml").read_text(encoding="utf-8")
        data_path = Path(yaml.safe_load(overall)["data_path"])
    folder = data_path.absolute()
    found = sorted(path.parent.name for path in folder.glob("*/*.inter") if path.stem == path.parent.name)
    _line("data_path", f"{folder} ({'exists' if folder.is_dir() else 'does not exist'})")
    _line("found there", ", ".join(found) or "none")
    _line("with RecBole", f"ml-100k ({root / 'dataset_example' / 'ml-100k'})")
