"""What `netkv doctor --telemetry` says of a look, and what it refuses before it needs root."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from experiments.cli import app
from experiments.planning.telemetry_display import telemetry_line, telemetry_table
from experiments.running.errors import SpecError

LOOK: dict[str, Any] = {
    "seconds": 1.0,
    "complete": True,
    "tiers": [{"tier": tier, "mean": tier / 10, "highest": tier / 5} for tier in range(4)],
    "round_trip_ms": {"p50": 1.84, "p99": 3.2},
    "sample_age_ms": {"mean": 51.4, "highest": 103.0},
    "polls_answered": 1200,
    "polls_missed": 2,
    "control_bytes_per_s": 132_400,
    "controller_cpu": 0.0123,
    "switches_missing": [],
    "links_down": [],
}


def test_a_line_holds_round_trips_ages_misses_and_costs() -> None:
    assert telemetry_line(LOOK) == (
        "round trip p50 1.8 p99 3.2 ms | sample age 51 (to 103) ms | 1200 polls, 2 missed | 132 kB/s |"
        " controller 1.2 % of a core"
    )


def test_what_is_missing_or_down_is_named_and_what_is_unknown_is_not_invented() -> None:
    dark = LOOK | {
        "round_trip_ms": None,
        "sample_age_ms": None,
        "switches_missing": ["core0"],
        "links_down": ["agg0>core0", "core0>agg0"],
    }
    line = telemetry_line(dark)
    assert line.startswith("no poll answered | not every link measured")
    assert line.endswith("missing: core0 | down: agg0>core0, core0>agg0")


def test_the_table_has_a_row_a_tier() -> None:
    shown = io.StringIO()
    Console(file=shown, width=100).print(telemetry_table(LOOK, "20 switches"))
    rows = [line.split("│") for line in shown.getvalue().splitlines() if "│" in line]
    assert [[cell.strip() for cell in row[1:-1]] for row in rows] == [
        ["0", "inside a server", "0.0", "0.0"],
        ["1", "server to ToR", "10.0", "20.0"],
        ["2", "ToR to aggregation", "20.0", "40.0"],
        ["3", "aggregation to core", "30.0", "60.0"],
    ]


@pytest.mark.parametrize(
    "arguments", [["some.yaml"], ["--congestion", "onoff"], ["--set", "seed=1"], ["--set", "seed=1", "--json"]]
)
def test_a_specification_without_telemetry_is_refused(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["doctor", *arguments])
    assert isinstance(done.exception, SpecError)
    assert str(done.exception).startswith("doctor: a specification is for --telemetry")


@pytest.mark.parametrize("seconds", ["0", "-1", "1e9", "soon"])
def test_how_long_to_watch_is_bounded(seconds: str) -> None:
    assert CliRunner().invoke(app, ["doctor", "--telemetry", "--seconds", seconds]).exit_code == 2
