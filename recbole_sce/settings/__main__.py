"""``python -m recbole_sce.settings``: write, in a source folder, what is made of the schema."""

from __future__ import annotations

from pathlib import Path

from recbole_sce.settings.reference import markdown, property_file

if __name__ == "__main__":
    for path, text in {"properties/model/SCE.yaml": property_file(), "docs/settings.md": markdown()}.items():
        Path(path).write_text(text, encoding="utf-8", newline="\n")
        print(f"wrote {path}")
