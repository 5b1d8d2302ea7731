"""What a published cell holds for, as a specification: its workload, load, size, oversubscription, background, age.

Where the paper's meaning is not known, what was chosen is said at the field; it was chosen before the runs were made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from experiments.published import DEFAULT_CLA_STAR, PAPER_TRAFFIC, PublishedCell, paper_set_up
from scheduler import TELEMETRY_POLICIES

Changes = Mapping[str, Any]

GPUS_OF_A_POD = 32
REFRESH_S = 1.0
"""Of the paper's runs but those of Figure 2 it is not known; with constant background it hardly matters."""


@dataclass(frozen=True)
class PaperCondition:
    """The paper's set-up but for what a table or figure varies; the defaults are the paper's.

    `load_percent`: of the arrival rate. `context_tokens`: every prompt is that long, at the same arrival rate (0: the
    workload's own lengths). `gpus`: more pods that decode, under the same load; the rack that prefills stays one, since
    NetKV's transfers in Table 5 are the same at any size. `cross_pod_oversubscription`: of an instance's share across
    pods; the ToRs take up to 2:1 of it, the aggregation the rest. `background_percent`: of every link. `sharing`: of
    requests that share a document (-1: the workload's own). `refresh_s`: 0 for a policy that reads no telemetry.
    """

    workload: str = "rag"
    load_percent: float = 100.0
    context_tokens: float = 0.0
    gpus: float = 64.0
    cross_pod_oversubscription: float = 4.0
    background_percent: float = 15.0
    sharing: float = -1.0
    refresh_s: float = REFRESH_S

    @classmethod
    def of_cell(cls, cell: PublishedCell, policy: str) -> Self:
        """What a run of `policy` must be like for this cell."""
        numbers = {field.name for field in fields(cls)} - {"workload"}
        given = {name: float(value) for name, value in cell.condition.items() if name in numbers}
        if policy not in TELEMETRY_POLICIES:
            given["refresh_s"] = 0.0
        return cls(str(cell.condition.get("workload", cls.workload)), **given)

    @property
    def name(self) -> str:
        """The workload and what differs from the default, but for the age of telemetry: `rag-load_percent200`."""
        differs = [
            f"{field.name}{getattr(self, field.name):g}"
            for field in fields(self)
            if field.name not in ("workload", "refresh_s") and getattr(self, field.name) != field.default
        ]
        return "-".join((self.workload, *differs))

    def changes(self) -> Changes:
        """The paper's set-up under this condition, as changes to the default specification."""
        tor = min(self.cross_pod_oversubscription, 2.0)
        found = {
            **paper_set_up(self.workload),
            **PAPER_TRAFFIC,
            **DEFAULT_CLA_STAR,
            "workload.speedup": self.load_percent / 100,
            "fabric.pods": int(self.gpus) // GPUS_OF_A_POD,
            "fabric.tor_oversubscription": tor,
            "fabric.aggregation_oversubscription": self.cross_pod_oversubscription / tor,
        }
        if self.background_percent:
            found["congestion.utilisation"] = self.background_percent / 100
        else:
            found["congestion.kind"] = "none"
        if self.context_tokens:
            found |= {"workload.mean_input_tokens": self.context_tokens, "workload.input_spread": 0.0}
        if self.sharing >= 0:
            found["workload.sharing"] = self.sharing
        if self.refresh_s:
            found["oracle.refresh_s"] = self.refresh_s
        return found
