"""A specification to start from, with every field at its default, and the JSON schema by which editors complete one.

Both are made from the models, as docs/reference/specification.md is, so they cannot differ from validation.
"""

from __future__ import annotations

import textwrap
from typing import Any

import yaml

from experiments.planning.spec_reference import fields_of, section_of, type_name
from experiments.running import RunSpec
from scenario import MODELS
from scheduler import POLICIES
from testbed import AUTO, FROM_THE_MACHINE
from topologies import PLACEMENTS
from workloads import PROFILES

HEAD = """\
# A specification: netkv run FILE
# Every field has its default here; a field that is left out has it, too. Quantities are those of the real system.
# null: none. Lines that are commented out: workload.profile, model.gpu or oracle.preset decides.
# On one page: docs/reference/specification.md.
"""

OF_A_NAME = ("rate_rps", "ttft_s", "tpot_s", "gpu_flops", "hbm_Bps", "poll_s", "refresh_s")
"""Fields whose default is that of the workload's profile, the GPU, or the oracle's preset: written down, they would
stay when that is changed."""

WIDTH = 110


def spec_template() -> str:
    """The default specification as YAML, each field under its description; read back, it is equal to the default."""
    defaults = RunSpec.model_validate({}).model_dump(mode="json")
    plain, sections = [], []
    for name, info in RunSpec.model_fields.items():
        inner = section_of(info.annotation)
        if inner is None:
            plain += _field(name, info, defaults[name], "")
        else:
            sections += ["", *_comment(info.description, ""), *_section(name, inner, defaults[name])]
    return "\n".join([HEAD, *plain, *sections]) + "\n"


def _section(name: str, model: type[Any], defaults: dict[str, Any]) -> list[str]:
    lines = [line for field, info in fields_of(model) for line in _field(field, info, defaults[field], "  ")]
    empty = all(line.lstrip().startswith("#") for line in lines)  # YAML takes a section of comments for null
    return [f"{name}: {{}} # what stands in place of {{}}:" if empty else f"{name}:", *lines]


def _field(name: str, info: Any, default: Any, indent: str) -> list[str]:
    text = f"{(info.description or '').strip()} [{type_name(info.annotation)}]"
    value = AUTO if name in FROM_THE_MACHINE else default
    off = "# " if name in OF_A_NAME else ""
    first, *others = _yaml(value).splitlines()
    return [*_comment(text, indent), f"{indent}{off}{name}: {first}", *(f"{indent}{line}" for line in others)]


def _yaml(value: Any) -> str:
    """A value, on one line unless it is a section.

    Large and small numbers have an exponent, and the point without which YAML sees text.
    """
    if isinstance(value, float) and not 1e-3 <= abs(value) < 1e6 and value:
        short = f"{value:g}"
        mantissa, e, exponent = (short if float(short) == value else repr(value)).partition("e")
        return f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{exponent}"
    width = WIDTH - 10 if isinstance(value, dict) else 1000
    flow: str = yaml.safe_dump(value, default_flow_style=True, width=width, sort_keys=False)
    return flow.removesuffix("...\n").strip()


def _comment(text: str | None, indent: str) -> list[str]:
    whole = " ".join((text or "").split())
    return textwrap.wrap(whole, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def spec_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a specification, with the words that validation takes for a number or section.

    It knows names, types, choices and ranges. What depends on several fields is left to validation.
    """
    schema = RunSpec.model_json_schema()
    sections = schema["$defs"]
    for name in FROM_THE_MACHINE:
        _allow(sections["EmulationSpec"]["properties"], name, {"const": AUTO})
    _allow(sections["OracleSpec"]["properties"], "refresh_s", {"const": "never"})
    for section, name in (("RetrySpec", "timeout_s"), ("OracleSpec", "most_age_s")):
        sections[section]["properties"][name]["default"] = "never"
        _allow(sections[section]["properties"], name, {"const": "never"})
    _allow(sections["ServingSpec"]["properties"], "retry", {"type": "boolean"})
    _allow(schema["properties"], "model", {"enum": list(MODELS)})
    _allow(schema["properties"], "faults", {"type": "array", "items": {"$ref": "#/$defs/FaultEvent"}})
    sections["WorkloadSpec"]["properties"]["profile"]["enum"] = list(PROFILES)
    sections["ServingSpec"]["properties"]["placement"]["enum"] = list(PLACEMENTS)
    schema["properties"]["policy"] |= {"anyOf": [{"enum": list(POLICIES)}, {"type": "string"}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "NetKV specification"}


def _allow(properties: dict[str, Any], name: str, word: dict[str, Any]) -> None:
    """Let a property also be a word."""
    kept = {key: properties[name].pop(key) for key in ("title", "description", "default") if key in properties[name]}
    properties[name] = {**kept, "anyOf": [properties[name], word]}
