"""The claims of the paper as the page's table has them: a row a claim, a cell a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.claims import CLAIMS, Claim, ClaimVerdict, verdicts


@dataclass(frozen=True)
class ClaimRow:
    """A claim and what each world says of it."""

    claim: Claim
    worlds: Mapping[str, ClaimVerdict]


def claim_rows(folders: Sequence[Path]) -> list[ClaimRow]:
    """A row a claim, in order; none without a sweep."""
    found = verdicts(folders) if folders else []
    worlds = list(dict.fromkeys(verdict.world for verdict in found))
    by_place = {(verdict.claim, verdict.world): verdict for verdict in found}
    return [
        ClaimRow(claim, {world: by_place[name, world] for world in worlds}) for name, claim in CLAIMS.items() if found
    ]


def basis(verdict: ClaimVerdict) -> str:
    """What a number rests on: the configuration that decides, seeds, comparisons and the corrected p-value."""
    parts = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in verdict.configuration.items()
    ]
    if verdict.seeds:
        parts.append(f"{verdict.seeds} seed{'s' if verdict.seeds > 1 else ''}")
    if verdict.comparisons:
        parts.append(f"{verdict.comparisons} comparison{'s' if verdict.comparisons > 1 else ''}")
    if verdict.p is not None:
        parts.append(f"p {verdict.p:.2g} (Holm)")
    return " · ".join(parts)
