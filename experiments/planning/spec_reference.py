"""Write docs/reference/specification.md: every field of a specification with its type, default and description.

    python -m experiments.planning.spec_reference > docs/reference/specification.md

The text is that of the models (`Field(description=...)`), so that page, `--set` and validation cannot differ.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from experiments.running import RunSpec
from scenario import MODELS
from testbed import AUTO, FROM_THE_MACHINE

HEAD = """# Fields of a specification

A specification is a YAML file for `netkv run SPEC.yaml`; every field is also reached by `--set section.field=value`.
Values are YAML: `--set workload.max_output_tokens=null` for none, `--set 'congestion.tiers=[1, 2, 3]'` for a list,
`--set fabric.nic_rate_bps=1.0e+11` with the point. What is not given has the default below. Quantities are those of the
real system. An unknown field, a wrong type or a value out of range ends the command with one line and exit code 2,
before anything runs.

`netkv init FILE` writes one with every field, its default and the description below;
[examples/spec.yaml](../../examples/spec.yaml) is a short one. Editors that know the YAML language server complete and
check a specification by its JSON schema:

    netkv init --schema netkv.schema.json
    sed -i '1i # yaml-language-server: $schema=netkv.schema.json' spec.yaml

This page is generated:

    python -m experiments.planning.spec_reference > docs/reference/specification.md
"""

BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def page() -> str:
    """The whole page as Markdown: the top level's plain fields first, then a table a section."""
    plain, sections = [], []
    for name, info in RunSpec.model_fields.items():
        inner = section_of(info.annotation)
        if inner is None:
            plain.append(_row(name, info))
        else:
            sections.append(_section(name, inner))
    return "\n".join([HEAD, "## Top level\n", *_table(plain), *sections])


def _section(name: str, model: type[Any]) -> str:
    lines = [f"\n## `{name}`\n", *_paragraphs(model), ""]
    if name == "model":
        lines += [f"Presets (`--set model=NAME`): {', '.join(f'`{preset}`' for preset in MODELS)}.", ""]
    lines += _table([_row(field, info) for field, info in fields_of(model)])
    for field, info in fields_of(model):
        if (inner := inner_section(info.annotation)) is not None:
            lines += [f"\n### `{name}.{field}`\n", *_paragraphs(inner), ""]
            lines += _table([_row(one, its) for one, its in fields_of(inner)])
    return "\n".join(lines)


def _paragraphs(model: type[Any]) -> list[str]:
    paragraphs = [" ".join(one.split()) for one in (model.__doc__ or "").split("\n\n")]
    return ["\n\n".join(one for one in paragraphs if not one.startswith("Raises "))]


def _table(rows: list[str]) -> list[str]:
    return ["| field | type and range | default | meaning |", "|---|---|---|---|", *rows]


def _row(name: str, info: FieldInfo) -> str:
    description = " ".join((info.description or "").split())
    cells = (f"`{name}`", _type(info), _default(name, info), description)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def fields_of(model: type[Any]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a section: a pydantic model, or a dataclass that pydantic validates."""
    if issubclass(model, BaseModel):
        yield from model.model_fields.items()
        return
    schema = TypeAdapter(model).json_schema()["properties"]
    for one in dataclasses.fields(model):
        description = schema[one.name].get("description") or one.metadata.get("description")
        kind = {"int": int, "float": float, "str": str, "bool": bool}[str(one.type)]
        yield one.name, FieldInfo(annotation=kind, default=one.default, description=description)


def section_of(annotation: Any) -> type[Any] | None:
    """The section that a field holds, or None for a plain value."""
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)):
        return annotation
    return None


def inner_section(annotation: Any) -> type[Any] | None:
    """The section that a field of a section holds, one or a list of them; None for a plain value."""
    if get_origin(annotation) is tuple:
        return inner_section(get_args(annotation)[0])
    return section_of(annotation)


def _default(name: str, info: FieldInfo) -> str:
    if name in FROM_THE_MACHINE:
        return AUTO
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "null"
    if value is PydanticUndefined:
        return "must be given"
    if isinstance(value, BaseModel):
        return "below"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "never" if math.isinf(value) else f"{value:g}"
    if isinstance(value, tuple):
        return json.dumps(value)
    return str(value)


def _type(info: FieldInfo) -> str:
    bounds = _bounds(info.metadata)
    return ", ".join(part for part in (type_name(info.annotation), bounds) if part)


def type_name(annotation: Any) -> str:
    """A type in a reader's words: `integer`, `text`, its choices, what a list holds; and the bounds inside it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        kind, *metadata = get_args(annotation)
        return ", ".join(part for part in (type_name(kind), _bounds(metadata)) if part)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin is tuple:
        return f"list of {' and '.join(type_name(one) for one in get_args(annotation) if one is not Ellipsis)}"
    if origin is dict:
        return "mapping"
    if origin is not None:  # a union: the default says whether none is allowed
        return ", ".join(type_name(one) for one in get_args(annotation) if one is not type(None))
    if annotation is Any:
        return "any"
    if section_of(annotation) is not None:
        return "section"
    names = {int: "integer", float: "number", str: "text", bool: "true, false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _bounds(metadata: list[Any]) -> str:
    found = []
    for one in metadata:
        for part in getattr(one, "metadata", [one]):  # a Field inside Annotated keeps its bounds one level down
            limits = ((sign, getattr(part, name, None)) for name, sign in BOUNDS.items())
            found += [f"{sign} {_number(limit)}" for sign, limit in limits if limit is not None]
    return ", ".join(found)


if __name__ == "__main__":
    print(page())
