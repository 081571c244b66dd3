"""What a user installs: wheel and source distribution are whole, and work beside a clone and in it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import recbole_sce
from recbole_sce.utils.properties import properties_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROPERTIES = sorted(
    path.relative_to(ROOT / "properties").as_posix()
    for path in (ROOT / "properties").rglob("*.*")
    if path.suffix in (".yaml", ".hyper")
)
#: The README's five lines, cut to one epoch on few users.
FIVE_LINES = """
import recbole_sce
from recbole.quick_start import run_recbole

few = {"user_inter_num_interval": "[20,22]", "MAX_ITEM_LIST_LENGTH": 10, "epochs": 1, "show_progress": False}
result = run_recbole(model="SASRecSCE", dataset="ml-100k", config_dict=few)
print(result["test_result"])
print("from", recbole_sce.__file__)
"""


def tracked_files() -> list[str]:
    """Return the files of the repository, or of the folder that a source distribution has become."""
    run = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if run.returncode == 0:
        return [name for name in run.stdout.splitlines() if (ROOT / name).is_file()]
    made = re.compile(
        r"(^|/)(\.venv.*|build|dist|[^/]*\.egg-info|__pycache__|\.[a-z]+_cache|PKG-INFO|setup\.cfg)(/|$)"
    )
    names = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())
    return [name for name in names if not made.search(name)]


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, out: Path) -> tuple[Path, str]:
    """Build a ``wheel`` or an ``sdist`` with the build back end; return it and what the back end says."""
    code = f"from setuptools import build_meta; print('built', build_meta.build_{kind}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split("built ")[-1].strip(), done.stdout + done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's files: the build writes beside its source."""
    copy = tmp_path_factory.mktemp("clone")
    for name in tracked_files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return build("wheel", clone, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return build("sdist", clone, tmp_path_factory.mktemp("sdist"))


def environment(folder: Path, package: Path) -> Path:
    """Return the Python of a new environment with ``package``, which sees the packages of this one."""
    venv.create(folder)
    python = folder / "bin" / "python"
    target = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    shared = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    # With the .pth files of these folders, of which setuptools's brings distutils to Python 3.12 and later.
    lines = [f"import site; site.addsitedir({path!r})" for path in shared]
    Path(target, "shared.pth").write_text("\n".join(lines) + "\n")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, package, cwd=folder)
    return python


def test_the_version_has_one_place() -> None:
    assert "version" not in PROJECT["project"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", recbole_sce.__version__)


def test_every_package_is_declared() -> None:
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "recbole_sce").rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {*folders, "recbole_sce.properties"}


def test_an_editable_installation_finds_the_property_files() -> None:
    """Holds here because the suite itself runs on one (make test)."""
    folder = properties_folder()
    assert not [path for path in PROPERTIES if not folder.joinpath(*path.split("/")).is_file()]


@pytest.mark.slow
class TestDistributions:
    def test_nothing_warns_of_the_declarations(
        self, wheel: tuple[Path, str], sdist: tuple[Path, str]
    ) -> None:
        for _, text in (wheel, sdist):
            assert "Warning" not in text
            assert "no files found" not in text

    def test_the_wheel_has_modules_and_property_files_alone(self, wheel: tuple[Path, str]) -> None:
        names = [name for name in zipfile.ZipFile(wheel[0]).namelist() if ".dist-info/" not in name]
        modules = [
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / "recbole_sce").rglob("*.py")
            if "__pycache__" not in path.parts
        ]
        properties = [f"recbole_sce/properties/{path}" for path in ("__init__.py", *PROPERTIES)]
        pages = [f"recbole_sce/experiments/pages/{page}.html" for page in ("page", "comparison", "search")]
        assert sorted(names) == sorted(
            [*modules, "recbole_sce/py.typed", "recbole_sce_command.py", *pages, *properties]
        )

    def test_the_source_distribution_has_all_that_the_repository_has(self, sdist: tuple[Path, str]) -> None:
        with tarfile.open(sdist[0]) as files:
            names = {name.split("/", 1)[-1] for name in files.getnames()}
        assert not set(tracked_files()) - names

    @pytest.mark.parametrize("kind", ["wheel", "sdist"])
    def test_the_five_lines_outside_of_the_clone(
        self, kind: str, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        python = environment(tmp_path / "environment", request.getfixturevalue(kind)[0])
        output = run(python, "-c", FIVE_LINES, cwd=tmp_path)
        assert "ndcg@10" in output
        assert str(tmp_path / "environment") in output.split("from ")[-1]
        assert "Usage: recbole-sce" in run(python.with_name("recbole-sce"), "--help", cwd=tmp_path)

    def test_the_five_lines_in_the_clone(self, wheel: tuple[Path, str], clone: Path, tmp_path: Path) -> None:
        python = environment(tmp_path / "environment", wheel[0])
        shutil.rmtree(clone / "build", ignore_errors=True)
        output = run(python, "-c", FIVE_LINES, cwd=clone)
        assert "ndcg@10" in output
        assert str(clone / "recbole_sce") in output.split("from ")[-1]  # Python looks into the folder first
        assert recbole_sce.__version__ in run(python.with_name("recbole-sce"), "doctor", cwd=clone)
