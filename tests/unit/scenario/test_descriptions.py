"""Every field of every specification says what it means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel, TypeAdapter

from experiments.running.run_spec import RunSpec
from scenario import Scenario
from simulator import SimulationSpec


def undescribed(model: type[BaseModel]) -> Iterator[str]:
    """The fields without a description of a model, of its parts and of the parts of these."""
    schema = TypeAdapter(model).json_schema()
    for name, part in {model.__name__: schema, **schema.get("$defs", {})}.items():
        for field, meaning in part.get("properties", {}).items():
            if not meaning.get("description"):
                yield f"{name}.{field}"


@pytest.mark.parametrize("model", [Scenario, SimulationSpec, RunSpec])
def test_every_field_has_a_description(model: type[BaseModel]) -> None:
    assert list(undescribed(model)) == []


def test_the_parts_of_a_scenario_are_looked_at_too() -> None:
    parts = TypeAdapter(Scenario).json_schema()["$defs"]
    assert {"FabricSpec", "ModelSpec", "WorkloadSpec", "ServingSpec", "OracleSpec", "CongestionSpec", "SloSpec"} <= set(
        parts
    )
