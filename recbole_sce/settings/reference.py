"""The schema as a property file and as a table of the documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from recbole_sce.settings.schema import RecBoleSettings, SCESettings, must_be

_HEAD = """\
# What every model named <Base>SCE adds to its base: the loss, and how it is trained.
# Made of the schema in recbole_sce/settings/schema.py by python -m recbole_sce.settings.
# The encoder's own parameters are RecBole's (recbole/properties/model/<Base>.yaml).
# A key here is overridden by properties/model/<Base>SCE.yaml, then by the data set's file, the recipe,
# your files, config_dict and the command line.
"""
_COMMENT_COLUMN, _WIDTH = 32, 130
_GROUPS = ("Recipe", "Loss", "Training", "Evaluation")


def property_file() -> str:
    """Return ``properties/model/SCE.yaml``: each key with its default and, as a comment, its meaning."""
    parts = [_HEAD]
    for group in _GROUPS:
        lines = [f"\n# {group}\n", *(_entry(schema, key) for schema, key in _keys_of(group))]
        parts.append("".join(lines))
    return "".join(parts)


def markdown() -> str:
    """Return ``docs/reference/settings.md``: tables of the keys of recbole_sce and of those of RecBole."""
    lines = [
        "# Settings",
        "",
        "<!-- Made of recbole_sce/settings/schema.py by python -m recbole_sce.settings. -->",
        "",
        "Every key of recbole_sce works wherever RecBole takes settings: in a file, in `config_dict`, on the "
        "command line. A value that is impossible is refused before data is read.",
    ]
    for group in _GROUPS:
        lines += ["", f"## {group}", "", *_table(_keys_of(group))]
    lines += [
        "",
        "## Keys of RecBole",
        "",
        "These are RecBole's own. For models of recbole_sce they are checked before data is read.",
        "",
        *_table(_keys_of("RecBole"), with_default=False),
    ]
    return "\n".join(lines) + "\n"


def _keys_of(group: str) -> Iterator[tuple[type[BaseModel], str]]:
    for schema in (SCESettings, RecBoleSettings):
        for key in schema.model_fields:
            if _extra(schema, key)["group"] == group:
                yield schema, key


def _entry(schema: type[BaseModel], key: str) -> str:
    """Return the line of a key, and the lines over which its comment goes on."""
    field = schema.model_fields[key]
    applies_to = _extra(schema, key)["applies_to"]
    comment = f"({_type_name(field.annotation)}) "
    comment += f"[{applies_to}] " if applies_to else ""
    comment += str(field.description)
    first, *others = textwrap.wrap(comment, _WIDTH - _COMMENT_COLUMN - 2)
    setting = f"{key}: {_yaml(field.default)}"
    lines = [f"{setting:<{_COMMENT_COLUMN - 1}} # {first}"]
    lines += [f"{'':<{_COMMENT_COLUMN}}#   {line}" for line in others]
    return "\n".join(lines) + "\n"


def _table(keys: Iterator[tuple[type[BaseModel], str]], with_default: bool = True) -> list[str]:
    head = (
        ["Key", "Default", "Must be", "Applies to", "Meaning"]
        if with_default
        else ["Key", "Must be", "Meaning"]
    )
    rows = [head, ["---"] * len(head)]
    for schema, key in keys:
        field = schema.model_fields[key]
        cells = [f"`{key}`", must_be(schema, key), str(field.description)]
        if with_default:
            cells[1:1] = [f"`{_yaml(field.default)}`"]
            cells[3:3] = [_extra(schema, key)["applies_to"]]
        rows.append([cell.replace("|", "\\|") for cell in cells])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _extra(schema: type[BaseModel], key: str) -> dict[str, str]:
    extra: Any = schema.model_fields[key].json_schema_extra
    return dict(extra)


def _yaml(value: Any) -> str:
    return "~" if value is None else str(value)


def _type_name(annotation: Any) -> str:
    """Return the name of a type as RecBole's property files write it."""
    if annotation is Any:
        return "dict"
    if get_origin(annotation) is Literal:
        return "str"
    arguments = [one for one in get_args(annotation) if one is not type(None)]
    if arguments:
        first = arguments[0]
        return _type_name(first)
    return str(annotation.__name__)
