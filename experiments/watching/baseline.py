"""What a run is compared with while it goes on: the TTFT of the same requests under another policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from experiments.running import RunSpec, SpecError, is_run, make_spec, open_world, read_manifest, read_table, spec_of


class Baseline(NamedTuple):
    """`name`: what it is, in a few words. `ttft_ms`: by request, of those that completed."""

    name: str
    ttft_ms: Mapping[int, float]


def baseline_of(spec: RunSpec, named: str) -> Baseline:
    """The baseline that `named` is: the folder of a run of the same requests, or a policy, run in the fluid model.

    SpecError for a folder of other requests, an unknown policy, or faults that the fluid model does not have.
    """
    if is_run(Path(named)):
        return _recorded(spec, Path(named))
    fields = spec.model_dump(mode="json") | {"world": "analytic", "policy": named}
    try:
        fluid = make_spec(fields, {})
    except SpecError as problem:
        raise SpecError(f"--baseline {named}: not a run's folder, nor a run of the fluid model: {problem}") from None
    with open_world(fluid) as world:
        outcome = world.run(fluid.scenario)
    name = named if spec.world == "analytic" else f"{named} in the fluid model"
    return Baseline(name, {one.request_id: one.ttft_ms for one in outcome.requests if one.status == "completed"})


def _recorded(spec: RunSpec, folder: Path) -> Baseline:
    recorded = spec_of(folder, read_manifest(folder))
    if (recorded.workload, recorded.seed) != (spec.workload, spec.seed):
        raise SpecError(f"--baseline {folder}: a run of other requests: the same workload and seed are needed")
    table = read_table(folder, "requests", ["request_id", "ttft_ms", "status"])
    done = table[table["status"] == "completed"]
    return Baseline(
        f"{recorded.policy} in {folder.name}",
        dict(zip(done["request_id"].tolist(), done["ttft_ms"].tolist(), strict=True)),
    )
