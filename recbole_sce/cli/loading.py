"""What a command needs that help and the checks of its options do not: torch, RecBole and the plugin."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from recbole_sce.cli.errors import InputError
from recbole_sce.utils.requirements import install_line


def load_package() -> None:
    """Run the ``__init__`` of recbole_sce, which the program leaves to its commands; idempotent."""
    package = sys.modules["recbole_sce"]
    spec = package.__spec__
    if not hasattr(package, "__version__") and spec is not None and spec.loader is not None:
        spec.loader.exec_module(package)


def load_plugin() -> None:
    """Register the plugin with RecBole.

    To be called before any module that imports RecBole.

    Raises:
        InputError: RecBole is not installed.
    """
    if find_spec("recbole") is None:
        raise InputError(f"RecBole must be installed, got none: {install_line('recbole')}")
    load_package()
