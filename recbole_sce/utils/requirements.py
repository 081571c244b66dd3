"""Packages that may be missing, and the line that installs each on this Python."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

#: The release of RecBole that the package is made for.
RECBOLE = "1.2.1"

_ARGUMENTS = {"optuna": ["optuna>=4"], "hyperopt": ["hyperopt>=0.2.7"], "duckdb": ["duckdb>=1.2"]}
# RecBole asks for ray <= 2.6.3. It has no wheels from Python 3.12 on, where RecBole is installed without it.
if sys.version_info >= (3, 12):
    _ARGUMENTS |= {
        "recbole": ["--no-deps", f"recbole=={RECBOLE}"],
        "ray": ["ray[tune]>=2.40"],
        "pyarrow": ["pyarrow>=14"],
    }
else:
    # pyarrow 26 refuses numpy < 2 when it is imported.
    _ARGUMENTS |= {
        "recbole": [f"recbole=={RECBOLE}"],
        "ray": ["ray[tune]<=2.6.3", "pyarrow<26"],
        "pyarrow": ["pyarrow>=14,<26"],
    }


def installed(package: str) -> str | None:
    """Return the version of ``package`` that this Python has; None if it has none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def install_line(package: str) -> str:
    """Return the shell command that installs ``package`` for this Python."""
    program = "pip install" if _has_pip() else f"uv pip install --python {shlex.quote(sys.executable)}"
    return f"{program} {shlex.join(_ARGUMENTS.get(package, [package]))}"


def install(package: str) -> None:
    """Install ``package`` for this Python, and print what the installer prints.

    Raises:
        subprocess.CalledProcessError: the installer fails.
        FileNotFoundError: there is neither pip nor uv.
    """
    pip = [sys.executable, "-m", "pip", "install"]
    uv = ["uv", "pip", "install", "--python", sys.executable]
    subprocess.run([*(pip if _has_pip() else uv), *_ARGUMENTS.get(package, [package])], check=True)


def missing_package(package: str, purpose: str, error: ImportError) -> ModuleNotFoundError:
    """Return the error to raise where ``purpose`` needs ``package``, whose import fails with ``error``."""
    return ModuleNotFoundError(
        f"{purpose} needs {package} ({error}): {install_line(package)}", name=error.name
    )


def _has_pip() -> bool:
    return find_spec("pip") is not None
