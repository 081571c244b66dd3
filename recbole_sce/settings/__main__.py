"""Print what is made of the schema: ``python -m recbole_sce.settings yaml`` or ``markdown``."""

from __future__ import annotations

import sys

from recbole_sce.settings.reference import markdown, property_file

if __name__ == "__main__":
    renders = {"yaml": property_file, "markdown": markdown}
    if sys.argv[1:] not in [[name] for name in renders]:
        sys.exit(f"the argument must be one of {', '.join(renders)}, got {' '.join(sys.argv[1:]) or 'none'}")
    print(renders[sys.argv[1]](), end="")
