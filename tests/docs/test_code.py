"""Python blocks of a page run one after the other, on small data and with a small model."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from logs import write_log
from recbole.model.sequential_recommender import GRU4Rec

from docs.commands import command_lines
from docs.pages import PAGES, blocks, name_of
from recbole_sce import experiments
from recbole_sce.cli import app

pytestmark = pytest.mark.usefixtures("forget_registered")

SMALL = {
    "epochs": 1,
    "hidden_size": 8,
    "inner_size": 8,
    "n_layers": 1,
    "MAX_ITEM_LIST_LENGTH": 10,
    "show_progress": False,
    "data_path": "dataset",
    "user_inter_num_interval": "[0,24)",
}
#: Of ml-100k, holds the users whom the pages name.
WITH_NAMED_USERS = {"user_inter_num_interval": "[39,93)"}
#: Pages whose code starts processes.
SLOW = ("docs/guides/compare.md", "docs/guides/tune.md", "docs/guides/processes.md")
WITH_CODE = [
    pytest.param(page, marks=[pytest.mark.nightly] if name_of(page) in SLOW else [], id=name_of(page))
    for page in PAGES
    if blocks(page, "python", "diff")
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a trained model, ``saved/SASRecSCE-best.pth``."""
    from recbole.quick_start import run_recbole

    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["pytest"])
        run_recbole("SASRecSCE", "ml-100k", config_dict={**SMALL, **WITH_NAMED_USERS})
    best, *_ = (path for path in (folder / "saved").glob("*.pth") if not path.stem.endswith("-last"))
    best.rename(folder / "saved" / "SASRecSCE-best.pth")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the working directory of a page: its data, and settings that make every training small."""
    clicks = write_log(tmp_path, "clicks").read_text().splitlines()[1:]
    lines = ["visitor,sku,stars,when", *(line.replace("\t", ",") for line in clicks)]
    with gzip.open(tmp_path / "clicks.csv.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest", *(f"--{key}={value}" for key, value in SMALL.items())])
    for name in ("compare", "tune"):
        monkeypatch.setattr(experiments, name, with_small_models(getattr(experiments, name)))
    return tmp_path


def with_small_models(run: Any) -> Any:
    """Return ``compare`` or ``tune`` with small models, which processes of their own train."""

    def small(*arguments: Any, settings: dict[str, Any], **options: Any) -> Any:
        return run(*arguments, settings={**settings, **SMALL}, **options)

    return small


def after(diff: str) -> str:
    """Return what a diff makes."""
    return "\n".join(line[1:] for line in diff.splitlines() if not line.startswith("-"))


def run_conversions(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the commands of a shell block that convert a log."""
    for words in command_lines(text):
        if words[:2] == ["recbole-sce", "convert"]:
            pytest.importorskip("duckdb", reason="converting needs the extra recbole_sce[convert]")
            command: Any = typer.main.get_command(app)
            command.main(words[1:], standalone_mode=False)


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs(
    page: Path, folder: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name_of(page) in ("docs/guides/tune.md",):
        pytest.importorskip("optuna", reason="searching needs the extra recbole_sce[tune]")
    if any("SASRecSCE-best.pth" in block.text for block in blocks(page, "python")):
        shutil.copytree(trained / "saved", folder / "saved")
    module = ModuleType("page")
    module.MyModel = GRU4Rec  # type: ignore[attr-defined]  # the README leaves its model open
    monkeypatch.setitem(sys.modules, "page", module)  # checkpoints name their classes by module
    for block in blocks(page, "python", "diff", "shell", "yaml"):
        if block.language == "shell":
            run_conversions(block.text, monkeypatch)
        elif block.language == "yaml":
            for name in re.findall(r"`(\w+\.yaml)`", block.before):
                (folder / name).write_text(block.text)
        elif "__main__" in block.text:
            run_as_script(block.text, folder)
        else:
            text = after(block.text) if block.language == "diff" else block.text
            exec(compile(text, name_of(page), "exec"), vars(module))


def run_as_script(text: str, folder: Path) -> None:
    (folder / "script.py").write_text(text)
    done = subprocess.run([sys.executable, "script.py", *sys.argv[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_the_output_that_the_readme_shows_is_what_its_lines_print(tmp_path: Path) -> None:
    page = next(page for page in PAGES if name_of(page) == "README.md")
    lines, shown = blocks(page, "python")[0].text, re.search(r"OrderedDict.*?\)\n```", page.read_text(), re.S)
    assert shown
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    printed = metrics_of(done.stdout.rpartition("OrderedDict")[2])
    assert len(printed) == 5
    # Processors add in other orders, and training carries that on.
    assert metrics_of(shown.group()) == pytest.approx(printed, rel=0.1)


def metrics_of(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"'([\w@]+)'[,:] ([\d.]+)", text)}
