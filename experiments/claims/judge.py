"""What sweeps say of the paper's claims C1 to C8, world by world. Rules and margins are ours, fixed before measuring.

The rule of each claim is in `experiments.claims.claim.CLAIMS` and in docs/explanation/claims.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from experiments.claims.claim import CLAIMS, WORLDS, Claim, ClaimVerdict, Verdict
from experiments.claims.interface_claim import only_the_oracle
from experiments.claims.numeric_claims import slo_gained, tbt_overhead, ttft_saved
from experiments.claims.policy_comparisons import read_evidence
from experiments.claims.theory_claims import complexity, herding, robustness
from experiments.claims.verdict_table import claim_lines, claims_table

__all__ = ["CLAIMS", "WORLDS", "Claim", "ClaimVerdict", "Verdict", "claim_lines", "claims_table", "verdicts"]


def verdicts(
    sweep_folders: Sequence[Path],
    worlds: Sequence[str] = WORLDS,
    read: Mapping[Path, pd.DataFrame] = MappingProxyType({}),
) -> list[ClaimVerdict]:
    """Every claim in every world, in order, by all runs of the sweeps that are not `invalid`.

    The order of the folders is of no matter, one given twice counts once, and a folder of sweeps stands for all of
    them. A claim that nothing was measured for is inconclusive and says what to run. StoreError for no sweep.

    `read`: what `read_sweep` has given of some of the sweeps.
    """
    sweeps = read_evidence(sweep_folders, read)
    found = [
        verdict
        for world in worlds
        for verdict in (
            herding(sweeps, world),
            complexity(sweeps, world),
            robustness(sweeps, world),
            *ttft_saved(sweeps, world),
            slo_gained(sweeps, world),
            tbt_overhead(sweeps, world),
            only_the_oracle(sweeps, world),
        )
    ]
    return sorted(found, key=lambda verdict: verdict.claim)
