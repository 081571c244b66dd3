"""What MkDocs does beyond its plugins: pages made of code and notebooks, tables made of data.

Links are written so that they also work where the sources are browsed. Here a link that leaves ``docs/``
leads to the page made of that file, or becomes plain text if there is none.
"""

from __future__ import annotations

import base64
import csv
import importlib
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
START = "index.md"
RESULTS = "benchmarks/results"
MEASURED = ROOT / RESULTS
ABOUT_MEASUREMENTS = ("notes/", "results/")
#: Files of the repository that are pages of the site.
INCLUDED = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
    "README.md": START,
    "examples/story.ipynb": "notebooks/story.md",
    "examples/tuning.ipynb": "notebooks/tuning.md",
}
EXAMPLES = "guides/examples.md"
#: Pages of the API: title, an introduction, and the modules whose public names they list.
API = {
    "losses": ("Losses", "They need torch alone.", ["recbole_sce.loss"]),
    "models": (
        "Models",
        "The [table of models](../models.md) lists the variants.",
        [("recbole_sce", ["register_model", "property_file"]), ("recbole_sce.model", ["SCEMixin"])],
    ),
    "settings": (
        "Settings",
        "The [list of keys](../settings.md) says what each means.",
        ["recbole_sce.settings"],
    ),
    "data": (
        "Data",
        "From a raw log to training rows.",
        [
            ("recbole_sce.data.convert", ["convert"]),
            ("recbole_sce.data.raw_logs", ["Layout", "ConversionReport", "ConversionError"]),
            ("recbole_sce.data.dataset", ["IndexedSequenceDataset"]),
            ("recbole_sce.data.synthetic", ["LogSpec", "generate_log", "write_inter"]),
        ],
    ),
    "evaluator": (
        "Ranking",
        "Scores are made and used chunk by chunk.",
        [
            ("recbole_sce.evaluator.topk", ["stream_topk", "full_sort_topk", "full_sort_scores"]),
            ("recbole_sce.evaluator.ranking", ["rank_catalogue", "Ranking", "Pairs"]),
        ],
    ),
    "inference": (
        "Recommending",
        "The [guide](../../guides/recommend.md) shows how they are used.",
        [
            (
                "recbole_sce.inference.recommender",
                ["Recommender", "TopItems", "Skipped", "RecommendationError"],
            ),
            ("recbole_sce.inference.vectors", ["save_item_vectors", "build_index", "write_index", "recall"]),
        ],
    ),
    "experiments": ("Experiments", "Compare and tune.", ["recbole_sce.experiments"]),
    "safe-loading": (
        "Safe loading and errors",
        "[Trust](../../guides/trust.md) says what is refused.",
        [
            ("recbole_sce.compat", ["safe_load", "save_checkpoint", "allow_model_class", "active"]),
            ("recbole_sce.compat", ["CheckpointError", "CheckpointWriteError", "SavedDataError"]),
            ("recbole_sce.errors", ["RecboleSCEError", "InputError"]),
        ],
    ),
}

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_STYLE = re.compile(r"<style scoped>.*?</style>", re.DOTALL)
_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of other files."""
    for path, content in generated_pages():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Show pictures and tables that a page names, and turn links that leave ``docs/``."""
    source = page.file.src_uri
    if source.startswith(
        ABOUT_MEASUREMENTS
    ):  # their tables name many keys: pages that explain them come first
        page.meta["search"] = {"boost": 0.3}
    return markdown if page.file.generated_by else as_page(markdown, f"docs/{source}", source)


def generated_pages() -> Iterator[tuple[str, str | bytes]]:
    """Yield the path and the content of each page that is made when the site is built."""
    for name, path in INCLUDED.items():
        if name.endswith(".ipynb"):
            yield from _notebook(ROOT / name, path)
        elif path != START:
            yield path, as_page((ROOT / name).read_text(encoding="utf-8"), name, path)
    yield EXAMPLES, _examples()
    for file in sorted(MEASURED.glob("*.svg")):
        yield f"results/{file.name}", file.read_bytes()
    for name, (title, introduction, modules) in API.items():
        yield f"reference/api/{name}.md", _api_page(title, introduction, modules)


def as_page(text: str, source: str, page: str) -> str:
    """Return Markdown of the file ``source`` for the site's ``page``: its links, pictures and tables."""
    parts = _FENCED.split(text)  # code and what is around it, in turn
    for number in range(0, len(parts), 2):
        lines = parts[number].split("\n")
        parts[number] = "\n".join(
            _shown_in_place(line, source, page) or _LINK.sub(lambda link: _turned(link, source, page), line)
            for line in lines
        )
    return "".join(parts)


def _shown_in_place(line: str, source: str, page: str) -> str | None:
    """Return what stands for a link that has its line to itself: a picture, settings, or a table."""
    link = _LINK.fullmatch(line.strip())
    if link is None:
        return None
    target = ROOT / _target(link[3], source)
    if target.parent.name == "pictures":
        return f'<div class="picture">{target.read_text(encoding="utf-8")}</div>'
    if target.suffix == ".yaml":
        return f"```yaml\n{target.read_text(encoding='utf-8')}```"
    if target.suffix == ".csv":
        return _table(target)
    if target.suffix == ".md" and target.parent == MEASURED:
        return as_page(target.read_text(encoding="utf-8"), f"{RESULTS}/{target.name}", page)
    return None


def _turned(link: re.Match[str], source: str, page: str) -> str:
    """Return a link of the file ``source`` as it leads from ``page``."""
    picture, text, address = link.groups()
    if re.match(r"[a-z]+:|#", address):
        return link[0]
    target, anchor = _target(address, source), address.partition("#")[2]
    if target.startswith("docs/"):
        place = target.removeprefix("docs/")
    elif target in INCLUDED:
        place = INCLUDED[target]
    elif picture and posixpath.dirname(target) == RESULTS:
        place = f"results/{posixpath.basename(target)}"
    elif target.startswith("examples/") and target.endswith(".py"):
        place, anchor = EXAMPLES, posixpath.basename(target).replace(".", "")
    else:
        return text
    place = posixpath.relpath(place, posixpath.dirname(page))
    return f"{picture}[{text}]({place}{'#' if anchor else ''}{anchor})"


def _target(address: str, source: str) -> str:
    """Return the path within the repository that an address in the file ``source`` names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), address.partition("#")[0]))


def _table(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    numeric = [all(re.match(r"[-+\u2212]?\d|$", row[i]) for row in rows) for i in range(len(head))]
    rule = ["---:" if right else "---" for right in numeric]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _examples() -> str:
    parts = ["# Examples", "", "Scripts in the folder `examples/`. Each is run by the tests.", ""]
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8").rstrip()
        parts += [f"## {path.name}", "", f"```python\n{text}\n```", ""]
    return "\n".join(parts)


def _api_page(title: str, introduction: str, modules: list[Any]) -> str:
    parts = [f"# {title}", "", introduction, ""]
    for entry in modules:
        module, names = entry if isinstance(entry, tuple) else (entry, None)
        names = names or importlib.import_module(module).__all__
        parts += [f"::: {_home(module, name)}.{name}\n" for name in names]
    return "\n".join(parts)


def _home(module: str, name: str) -> str:
    """Return the module that defines ``name``, where a class or function says so."""
    thing = getattr(importlib.import_module(module), name)
    return str(thing.__module__) if hasattr(thing, "__name__") else module


def _notebook(file: Path, page: str) -> Iterator[tuple[str, str | bytes]]:
    """Yield the page of a notebook, with the outputs that it was saved with, and the pictures among them."""
    parts = []
    for number, cell in enumerate(json.loads(file.read_text(encoding="utf-8"))["cells"]):
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                picture = f"{Path(page).stem}-{number}.png"
                yield f"{posixpath.dirname(page)}/{picture}", base64.b64decode(data["image/png"])
                parts.append(f"![Output]({picture})")
            elif "text/html" in data:
                table = _STYLE.sub("", "".join(data["text/html"]))
                parts.append(table.replace('<table border="1" class="dataframe">', "<table>"))
            else:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    yield page, "\n\n".join(parts) + "\n"
