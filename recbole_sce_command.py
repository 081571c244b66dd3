"""The program ``recbole-sce``, whose help and refusals do not wait for RecBole.

``import recbole_sce`` registers the plugin with RecBole, which takes seconds. The program makes the package
without running its ``__init__``: the commands run it when they need it (:mod:`recbole_sce.cli.loading`).
Processes that a command starts import this module and do not call :func:`main`: they get the whole package.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec


def bare_package() -> None:
    """Make ``recbole_sce`` importable without running its ``__init__``."""
    spec = find_spec("recbole_sce")
    if spec is None:
        sys.exit("error: the package recbole_sce must be installed beside its program recbole-sce, got none")
    sys.modules["recbole_sce"] = module_from_spec(spec)


def main() -> None:
    """Run the command that ``sys.argv`` names."""
    bare_package()
    from recbole_sce.cli import main

    main()
