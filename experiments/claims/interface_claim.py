"""C8, a property of what was built: what NetKV needs beside any other policy. Only emulated runs can show it."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.claims.claim import ClaimVerdict
from experiments.claims.numeric_claims import ROUND_ROBIN, not_measured
from experiments.claims.policy_comparisons import POLICY, ClaimSweep
from experiments.running import RunSpec

ALLOWED = ("policy", "policy_parameters", "oracle")
"""What may differ between a run of NetKV and one of another policy: the decision, and the telemetry it is given."""

SHOWN_BY = (
    "tests/unit/test_architecture.py holds that workers know no policy; tests/unit/controller/test_oracle.py that the"
    " scheduler learns of the network from one JSON document on a socket alone"
)


def only_the_oracle(sweeps: Sequence[ClaimSweep], world: str) -> ClaimVerdict:
    """C8, by the specifications of paired runs: the same fabric, workers, TCP and model, whoever decides."""
    if world != "emulated":
        sentence = "not measured: a model has no transport, engine or hardware to change: see the emulated world"
        return ClaimVerdict("C8", world, "inconclusive", sentence)
    pairs, foreign, runs, folders = 0, set(), set(), set()
    for sweep in sweeps:
        for _, cell in sweep.cells(world):
            for _, group in cell.groupby("seed"):
                by_policy = {name: sorted(part["run"].unique()) for name, part in group.groupby("policy")}
                for ours in by_policy.get(POLICY, []):
                    for other in by_policy.get(ROUND_ROBIN, []):
                        pairs += 1
                        runs |= {ours, other}
                        folders.add(sweep.folder)
                        foreign |= set(_different(sweep.specs[ours], sweep.specs[other])) - set(ALLOWED)
    if not pairs:
        return not_measured("C8", world, f"both {POLICY} and {ROUND_ROBIN}", "staleness")
    also = f", and also in {', '.join(sorted(foreign))}" if foreign else " alone"
    return ClaimVerdict(
        "C8",
        world,
        "not reproduced" if foreign else "reproduced",
        f"{pairs} pairs of runs of {POLICY} and {ROUND_ROBIN} differ in the policy and the oracle's settings{also}."
        f" {SHOWN_BY}. The engine is a model of one, which sends and receives real bytes.",
        comparisons=pairs,
        sweep=min(folders),
        runs=tuple(sorted(runs)),
    )


def _different(one: RunSpec, other: RunSpec) -> list[str]:
    return [name for name in RunSpec.model_fields if getattr(one, name) != getattr(other, name)]
