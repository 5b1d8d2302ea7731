"""The runs that a reproduction needs: one for each condition, policy and seed that any of its cells rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.published import PublishedCell, published_cells
from experiments.reproducing.conditions import PaperCondition
from experiments.running import Condition, SpecError, make_spec
from topologies import did_you_mean

TABLES = tuple(dict.fromkeys(cell.table for cell in published_cells()))
NAME = "paper"
"""What a sweep of these runs is called in its description."""

CORNERS = {(1.0, 0.0), (1.0, 40.0), (8.0, 0.0), (8.0, 40.0)}
"""Of Figure 1: cross-pod oversubscription and background, percent."""


EMULATION = {"emulation.rate_scale": 2500}
"""The paper's NICs are half as fast as the default's: twice the packets a blob at the same cost."""


@dataclass(frozen=True)
class ReproductionProfile:
    """How much is run: requests a run and seeds, and the same for the emulated world, which takes real time.

    `emulated_tables`: those of which `in_emulation` runs its part; all others are left to the analytic world.
    """

    requests: int
    seeds: Sequence[int]
    emulated_requests: int
    emulated_seeds: Sequence[int]
    emulated_tables: Sequence[str]


PROFILES = {
    "quick": ReproductionProfile(500, (0, 1), 60, (0,), ("Table 2",)),
    "full": ReproductionProfile(
        2000, (0, 1, 2, 3, 4), 100, (0, 1, 2, 3, 4),
        ("Table 2", "Table 4", "Table 5", "Table 6", "Figure 1", "Figure 2"),
    ),
}  # fmt: skip


def in_emulation(cell: PublishedCell) -> bool:
    """Whether the emulated world runs this cell: of RAG, at 100 and 200 % load, on 64 and 128 GPUs, the corners of
    Figure 1, and the ends and the middle of Figure 2."""
    at = cell.condition
    corner = (float(at.get("cross_pod_oversubscription", 1)), float(at.get("background_percent", 0))) in CORNERS
    return (
        at.get("workload") == "rag"
        and float(at.get("load_percent", 100)) <= 200
        and float(at.get("gpus", 64)) <= 128
        and (cell.table != "Figure 1" or corner)
        and at.get("refresh_s", 1) in (0.1, 1, 10, 60)
    )


def cells_of(tables: Sequence[str] = TABLES) -> list[PublishedCell]:
    """The published cells of some tables. SpecError for one that was not published."""
    unknown = [table for table in tables if table not in TABLES]
    if unknown:
        names = [short(table) for table in TABLES]
        raise SpecError(f"cells: {unknown[0]!r} is not one of {', '.join(names)}{did_you_mean(unknown[0], names)}")
    return [cell for cell in published_cells() if cell.table in tables]


def short(table: str) -> str:
    """A table as the command line has it: `Figure 1` is `figure1`."""
    return table.lower().replace(" ", "")


def planned_runs(
    profile: ReproductionProfile,
    worlds: Sequence[str],
    tables: Sequence[str] = TABLES,
    changes: Mapping[str, Any] | None = None,
) -> list[Condition]:
    """The runs of a profile, a seed at a time, so that a sweep that is cut short has whole seeds."""
    return list(_planned(profile, worlds, tables, changes or {}))


def _planned(
    profile: ReproductionProfile, worlds: Sequence[str], tables: Sequence[str], changes: Mapping[str, Any]
) -> Iterator[Condition]:
    for world in worlds:
        emulated = world == "emulated"
        wanted = cells_of(tables)
        if emulated:
            wanted = [cell for cell in wanted if cell.table in profile.emulated_tables and in_emulation(cell)]
        pairs = dict.fromkeys(
            (PaperCondition.of_cell(cell, policy), policy)
            for cell in wanted
            for policy in (cell.against, cell.policy)
            if policy
        )
        seeds = profile.emulated_seeds if emulated else profile.seeds
        count = profile.emulated_requests if emulated else profile.requests
        for seed in (changes["seed"],) if "seed" in changes else seeds:
            for condition, policy in pairs:
                own = {"world": world, "policy": policy, "seed": seed}
                spec = make_spec({}, {**EMULATION, **condition.changes(), "workload.requests": count, **changes, **own})
                labels = {
                    "world": world, "workload": condition.workload, "condition": condition.name, "seed": seed,
                    "refresh_s": condition.refresh_s or None,
                }  # fmt: skip
                aged = f"-refresh{condition.refresh_s:g}s" if condition.refresh_s else ""
                yield Condition(f"{world}-{condition.name}-{policy}{aged}-seed{seed}", spec, labels)
