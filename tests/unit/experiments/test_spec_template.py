"""`netkv init`: what it writes is the default specification, and the schema knows what validation knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from experiments.cli import app
from experiments.planning import spec_schema, spec_template
from experiments.planning.spec_reference import fields_of, section_of
from experiments.running import RunSpec, read_spec
from tests.support.paths import ROOT
from workloads import PROFILES

SCHEMA = jsonschema.Draft202012Validator(spec_schema())


@pytest.fixture
def written(tmp_path: Path) -> Path:
    place = tmp_path / "deep" / "spec.yaml"
    said = CliRunner().invoke(app, ["init", str(place)])
    assert (said.exit_code, said.output) == (
        0,
        f"{place}: every field at its default; next: netkv plan {place}, netkv run {place}\n",
    )
    return place


def test_what_is_written_is_the_default_specification(written: Path) -> None:
    assert read_spec(written, {}) == read_spec(None, {})
    changed = {"workload.requests": 7, "fabric.tor_oversubscription": 4}
    assert read_spec(written, changed) == read_spec(None, changed)


@pytest.mark.parametrize("profile", PROFILES)
def test_another_profile_brings_its_own_rate_and_objective(written: Path, profile: str) -> None:
    text = written.read_text()
    assert "profile: conversation" in text
    written.write_text(text.replace("profile: conversation", f"profile: {profile}"))
    assert read_spec(written, {}) == read_spec(None, {"workload.profile": profile})


def test_every_field_is_there_under_its_description() -> None:
    lines = [line.strip() for line in spec_template().splitlines()]
    words = " ".join(line.lstrip("# ") for line in lines)
    for name, info in RunSpec.model_fields.items():
        inner = section_of(info.annotation)
        for field, its in fields_of(inner) if inner else [(name, info)]:
            assert any(line.removeprefix("# ").startswith(f"{field}: ") for line in lines), field
            assert " ".join((its.description or "").split()) in words
    assert max(len(line) for line in spec_template().splitlines()) <= 120


@pytest.mark.parametrize("place", ["examples/spec.yaml", "specs/paper.yaml"])
def test_our_own_specifications_fit_the_schema(place: str) -> None:
    SCHEMA.check_schema(SCHEMA.schema)
    SCHEMA.validate(yaml.safe_load((ROOT / place).read_text()))
    SCHEMA.validate(yaml.safe_load(spec_template()))


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "llama-3-8b"},
        {"oracle": {"refresh_s": "never"}},
        {"emulation": {"rate_scale": 1000, "datapath": "user"}},
        {"emulation": {"rate_scale": "auto", "burst_ms": "auto"}},
        {"policy": "mine:Mine"},
        {},
    ],
)
def test_words_that_validation_takes_fit_the_schema(fields: dict[str, Any]) -> None:
    SCHEMA.validate(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"fabric": {"podz": 2}},
        {"polcy": "cla"},
        {"oracle": {"refresh_s": "often"}},
        {"oracle": {"loss": 2}},
        {"workload": {"profile": "poetry"}},
        {"congestion": {"kind": "storm"}},
    ],
)
def test_what_validation_refuses_does_not_fit(fields: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(fields)


def test_the_schema_is_printed_or_written(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["init", "--schema"])
    assert json.loads(printed.output) == spec_schema()
    place = tmp_path / "netkv.schema.json"
    assert CliRunner().invoke(app, ["init", "--schema", str(place)]).exit_code == 0
    assert place.read_text() == printed.output


def test_fields_have_their_descriptions_in_the_schema() -> None:
    described = [
        (name, field)
        for name, section in spec_schema()["$defs"].items()
        for field, its in section["properties"].items()
        if not its.get("description")
    ]
    assert described == []
