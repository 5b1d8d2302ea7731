"""The staleness knobs end to end: from the specification to the ages that a run records."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from experiments.running.run_spec import make_spec
from scenario import OracleSpec, Scenario
from simulator.analytic_world import AnalyticWorld


def ages_s(**oracle: Any) -> Any:
    """Age of the view at every decision of a minute of the default workload, seconds, and when each was taken."""
    scenario = Scenario.model_validate({"workload": {"requests": 200}, "oracle": oracle})
    with AnalyticWorld(scenario) as world:
        decisions = world.run(scenario).decisions
    return np.array([[row["oracle_age_ms"] / 1e3, row["decided_s"]] for row in decisions]).T


def test_never_is_a_word_in_every_file_and_an_infinite_interval_in_between() -> None:
    assert OracleSpec.model_validate({"refresh_s": "never"}).refresh_s == math.inf
    spec = make_spec({}, {"oracle.refresh_s": "never"})
    written = json.loads(json.dumps(spec.model_dump(mode="json"), allow_nan=False))
    assert written["oracle"]["refresh_s"] == "never"
    assert make_spec(written, {}) == spec
    assert spec.scenario.oracle.refresh_s == math.inf


def test_a_view_that_is_never_refreshed_is_as_old_as_the_run() -> None:
    age_s, decided_s = ages_s(refresh_s="never")
    assert np.abs(age_s - decided_s).max() <= 0.1


@pytest.mark.parametrize("refresh_s", [0.1, 5.0, 60.0])
def test_traffic_and_telemetry_begin_a_refresh_interval_before_the_first_request(refresh_s: float) -> None:
    """The phase of the snapshots is drawn from the seed, the same part of any interval."""
    phases = []
    for seed in range(200):
        scenario = Scenario.model_validate({"seed": seed, "oracle": {"refresh_s": refresh_s}})
        assert scenario.lead_s >= refresh_s
        assert -refresh_s <= scenario.first_snapshot_s <= 0
        fabric, roles = scenario.build()
        assert min(flow.start_s for flow in scenario.background(fabric, roles, 0.0)) >= -scenario.lead_s
        phases.append(scenario.first_snapshot_s / refresh_s)
    assert len(set(phases)) == 200
    assert np.histogram(phases, bins=4, range=(-1, 0))[0] == pytest.approx(50, abs=25)
    other = Scenario.model_validate({"seed": 3, "oracle": {"refresh_s": 7.0}})
    assert other.first_snapshot_s / 7.0 == pytest.approx(phases[3])


def test_a_delay_is_added_to_the_age() -> None:
    age_s, _ = ages_s(refresh_s=0.5, delay_s=2.0)
    settled = age_s[np.isfinite(age_s)]
    assert settled.min() >= 2.0
    assert settled.max() <= 2.0 + 0.5 + 0.1 + 1e-9


def test_a_lost_update_leaves_the_view_to_age() -> None:
    assert ages_s(refresh_s=0.5)[0].max() <= 0.6 + 1e-9
    assert ages_s(refresh_s=0.5, loss=0.5)[0].max() > 1.0
    assert np.isinf(ages_s(refresh_s=0.5, loss=1.0)[0]).all()


@pytest.mark.parametrize("oracle", [{"loss": 0.5}, {"noise": 1.0}, {"smoothing": "ewma", "smoothing_s": 5.0}])
def test_a_run_with_a_disturbed_view_repeats(oracle: dict[str, Any]) -> None:
    scenario = Scenario.model_validate({"workload": {"requests": 60}, "oracle": oracle})
    plain = Scenario.model_validate({"workload": {"requests": 60}})
    with AnalyticWorld(scenario) as world:
        runs = [[row["predicted_kv_transfer_ms"] for row in world.run(one).decisions] for one in (scenario,) * 2]
        undisturbed = [row["predicted_kv_transfer_ms"] for row in world.run(plain).decisions]
    assert runs[0] == runs[1] != undisturbed
