"""Where the property files are."""

from __future__ import annotations

import functools
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Traversable


@functools.lru_cache(maxsize=1)
def properties_folder() -> Traversable:
    """Return the folder of the property files: an installed package, or ``properties`` of a source folder.

    In a source folder Python takes the package from there, even where another copy is installed.
    """
    if find_spec("recbole_sce.properties") is not None:
        return files("recbole_sce.properties")
    return Path(__file__).parents[2] / "properties"
