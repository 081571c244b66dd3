"""The schema as a property file and as a page of the documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
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
    """Return ``docs/reference/settings.md``: the keys of recbole_sce, one by one, and those of RecBole."""
    parts = [
        "# Settings",
        "<!-- Made of recbole_sce/settings/schema.py by python -m recbole_sce.settings. -->",
        "Every key works wherever RecBole takes settings: in a file, in `config_dict`, on the command line. "
        "An impossible value is refused before data is read.",
        _overview(),
    ]
    for group in _GROUPS:
        parts += [f"## {group}", *(_section(schema, key) for schema, key in _keys_of(group))]
    parts += [
        "## Keys of RecBole",
        "These are RecBole's own. For models of recbole_sce they are checked before data is read.",
        _table(["Key", "Must be", "Meaning"], (_row(schema, key) for schema, key in _keys_of("RecBole"))),
    ]
    return "\n\n".join(parts) + "\n"


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


def _overview() -> str:
    """Return a table of all keys of recbole_sce with their defaults."""
    rows = [
        [f"[`{key}`](#{key.lower()})", f"`{_shown(schema.model_fields[key].default)}`", group]
        for group in _GROUPS
        for schema, key in _keys_of(group)
    ]
    return _table(["Key", "Default", "Group"], rows)


def _section(schema: type[BaseModel], key: str) -> str:
    """Return what the page says of one key."""
    field = schema.model_fields[key]
    applies_to = _extra(schema, key)["applies_to"]
    facts = [f"Default: `{_shown(field.default)}`", f"Must be: {must_be(schema, key)}"]
    if applies_to:
        facts.append(f"Applies to: {applies_to}")
    return "\n".join([f"### {key}", "", str(field.description), "", *(f"- {fact}" for fact in facts)])


def _row(schema: type[BaseModel], key: str) -> list[str]:
    return [f"`{key}`", must_be(schema, key), str(schema.model_fields[key].description)]


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _extra(schema: type[BaseModel], key: str) -> dict[str, str]:
    extra: Any = schema.model_fields[key].json_schema_extra
    return dict(extra)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


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
