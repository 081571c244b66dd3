"""Print what pyproject.toml requires on Python 3.12 and later, with the packages that the tests need."""

import sys
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

#: Optional packages of the quick tests.
EXTRAS = ("tune", "hyperopt", "convert", "parquet", "test")


def main() -> None:
    """Print the requirements one a line, without their markers."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    for line in [*project["dependencies"], *extras]:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"python_version": "3.12"}):
            requirement.marker = None
            print(requirement)


if __name__ == "__main__":
    main()
