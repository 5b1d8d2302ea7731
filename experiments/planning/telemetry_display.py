"""What `netkv doctor --telemetry` shows: the last look at the telemetry of a fabric, as a table or as a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

TIERS = ("inside a server", "server to ToR", "ToR to aggregation", "aggregation to core")
"""What the links are that the traffic of each tier, and of none below, crosses."""


def telemetry_table(look: Mapping[str, Any], title: str) -> Group:
    """Utilisation by tier of links, and below it what telemetry gives and costs."""
    table = Table()
    table.add_column("tier")
    table.add_column("links")
    table.add_column("utilisation %", justify="right")
    table.add_column("highest %", justify="right")
    for row in look["tiers"]:
        tier = row["tier"]
        table.add_row(str(tier), TIERS[tier], f"{100 * row['mean']:.1f}", f"{100 * row['highest']:.1f}")
    return Group(Text(title), table, Text(telemetry_line(look)))


def telemetry_line(look: Mapping[str, Any]) -> str:
    """Round trips, ages, missed polls and costs of one look, in one line."""
    trip, age = look["round_trip_ms"], look["sample_age_ms"]
    parts = [
        f"round trip p50 {trip['p50']:.1f} p99 {trip['p99']:.1f} ms" if trip else "no poll answered",
        f"sample age {age['mean']:.0f} (to {age['highest']:.0f}) ms" if age else "not every link measured",
        f"{look['polls_answered']} polls, {look['polls_missed']} missed",
        f"{look['control_bytes_per_s'] / 1e3:.0f} kB/s",
        f"controller {100 * look['controller_cpu']:.1f} % of a core",
    ]
    for key, what in (("switches_missing", "missing"), ("links_down", "down")):
        if look[key]:
            parts.append(f"{what}: {', '.join(look[key])}")
    return " | ".join(parts)
