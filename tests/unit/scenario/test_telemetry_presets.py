"""Presets by kind of telemetry: what they decide, what wins, and that their page says the same."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from experiments.planning import spec_template
from experiments.running.run_spec import make_spec
from scenario import TELEMETRY_PRESETS, OracleSpec, Scenario
from simulator.analytic_world import AnalyticWorld
from tests.support.paths import ROOT


@pytest.mark.parametrize("name", TELEMETRY_PRESETS)
def test_a_preset_decides_both_intervals(name: str) -> None:
    spec = OracleSpec.model_validate({"preset": name})
    assert {"poll_s": spec.poll_s, "refresh_s": spec.refresh_s} == TELEMETRY_PRESETS[name]


def test_what_is_given_beside_a_preset_wins() -> None:
    spec = make_spec({"oracle": {"preset": "snmp", "refresh_s": 5.0}}, {"oracle.delay_s": 2.0}).oracle
    assert (spec.poll_s, spec.refresh_s, spec.delay_s) == (30.0, 5.0, 2.0)


def test_a_specification_that_was_written_down_is_read_back_the_same() -> None:
    spec = make_spec({}, {"oracle.preset": "gnmi"})
    assert make_spec(json.loads(json.dumps(spec.model_dump(mode="json"))), {}) == spec


def test_the_template_leaves_to_a_preset_what_it_decides() -> None:
    """Written down, both intervals would win over `--set oracle.preset`."""
    lines = [line.strip() for line in spec_template().splitlines()]
    assert "# poll_s: 0.1" in lines
    assert "# refresh_s: 1.0" in lines


@pytest.mark.parametrize("name", [name for name, preset in TELEMETRY_PRESETS.items() if preset["poll_s"] >= 1])
def test_traffic_has_gone_on_for_two_polls_when_the_first_snapshot_is_taken(name: str) -> None:
    """A sample is the mean between two polls: the first one must not be of a fabric that was still empty."""
    scenario = Scenario.model_validate({"oracle": {"preset": name}})
    assert scenario.first_snapshot_s - 2 * scenario.oracle.poll_s >= -scenario.lead_s


def test_the_age_of_telemetry_is_that_of_its_kind() -> None:
    ages_s = {}
    for name, preset in TELEMETRY_PRESETS.items():
        scenario = Scenario.model_validate({"workload": {"requests": 200}, "oracle": {"preset": name}})
        with AnalyticWorld(scenario) as world:
            rows = world.run(scenario).decisions
        ages_s[name] = np.array([row["oracle_age_ms"] for row in rows]) / 1e3
        assert ages_s[name].min() >= 0
        assert ages_s[name].max() <= preset["poll_s"] + preset["refresh_s"] + 1e-6
    assert ages_s["in_band"].mean() < ages_s["gnmi"].mean() < ages_s["sonic_queues"].mean() < ages_s["snmp"].mean()


def test_the_page_of_presets_has_each_with_its_intervals() -> None:
    page = (ROOT / "docs" / "reference" / "telemetry-presets.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| \S", page, re.MULTILINE)
    found = {name: {"poll_s": float(poll_s), "refresh_s": float(refresh_s)} for name, poll_s, refresh_s in rows}
    assert found == TELEMETRY_PRESETS
