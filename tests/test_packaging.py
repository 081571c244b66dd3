"""What a user installs: the wheel, also one built from the source distribution, holds all that is needed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROPERTIES = sorted(
    path.relative_to(ROOT / "properties").as_posix()
    for path in (ROOT / "properties").rglob("*.*")
    if path.suffix in (".yaml", ".hyper")
)


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a ``wheel`` or an ``sdist`` with the build back end that pyproject.toml names."""
    code = f"from setuptools import build_meta; print('built', build_meta.build_{kind}({str(out)!r}))"
    run = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return out / run.stdout.split("built ")[-1].strip()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is under version control and needed to build: the build writes beside its source."""
    import shutil

    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("recbole_sce", "properties"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.slow
def test_every_package_is_in_the_wheel_and_it_works_elsewhere(source: Path, tmp_path: Path) -> None:
    wheel = build("wheel", source, tmp_path)
    names = zipfile.ZipFile(wheel).namelist()
    modules = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "recbole_sce").rglob("*.py")
        if "__pycache__" not in path.parts
    ]
    assert not [module for module in modules if module not in names]
    assert not [path for path in PROPERTIES if f"recbole_sce/properties/{path}" not in names]
    assert "recbole_sce/py.typed" in names
    laboratory = ("bench/", "benchmarks/", "harness/", "robustness/", "studies/", "docs/", "tests/")
    assert not [name for name in names if any(f"/{part}" in f"/{name}" for part in laboratory)]

    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(installed)
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop()); import recbole_sce; print(recbole_sce.__file__)\n"
        "from recbole.config import Config\n"
        "print(Config('SASRecSCE', 'ml-1m')['bucket_alpha'], Config('SASRecSCE', 'ml-1m')['load_col'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(installed)], cwd=empty, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    file, settings = run.stdout.strip().splitlines()[-2:]
    assert Path(file).is_relative_to(installed)
    assert settings.startswith("2.0")
    assert "timestamp" in settings


@pytest.mark.slow
def test_the_source_distribution_holds_the_property_files(source: Path, tmp_path: Path) -> None:
    archive = build("sdist", source, tmp_path)
    with tarfile.open(archive) as files:
        names = {name.split("/", 1)[-1] for name in files.getnames()}
    assert not [path for path in PROPERTIES if f"properties/{path}" not in names]


def test_an_editable_installation_finds_the_property_files() -> None:
    """Holds here because the suite itself runs on one (make test)."""
    from importlib.resources import files

    folder = files("recbole_sce.properties")
    assert not [path for path in PROPERTIES if not folder.joinpath(*path.split("/")).is_file()]
