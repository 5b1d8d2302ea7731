"""The paper's set-up as changes to the default specification; `specs/paper.yaml` has the same with its sources.

What is not known was fitted by `netkv paper fit` to cells of round-robin and CLA* alone; `fit.json` beside this is what
that command wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

Changes = Mapping[str, Any]

WORKLOADS = ("rag", "chatbot", "long_context")
"""The workloads of Table 4. All others of its tables, and Figures 2, 3 and 5, are of RAG."""

FULL_BATCH, FULL_STEP_S = 64, 0.018
"""The end of the step table. Batches are small at the paper's load, so that the cells that are fitted hardly know how
much longer a full batch takes: ours."""

_KNOWN: Changes = {
    "fabric.gpus_per_instance": 4,
    "fabric.nvlink_rate_bps": 3.6e12,
    "fabric.nic_rate_bps": 1.0e11,
    "fabric.tor_oversubscription": 2,
    "fabric.aggregation_oversubscription": 2,
    "serving.placement": "first_rack",
    "serving.prefill": "at_once",
}
"""Its fabric, and where and how it prefills."""


@cache
def published_fit() -> Any:
    """What `netkv paper fit` found: see `experiments.reproducing.fit`."""
    return json.loads((files("experiments.published") / "fit.json").read_text(encoding="utf-8"))


def fitted_changes(workload: str, values: Mapping[str, float]) -> Changes:
    """A workload with these values of the fitted parameters, as changes to a specification.

    `least_step_s`: a decode step with one request; all others are fields by their dotted names.
    """
    fields = {name: value for name, value in values.items() if name != "least_step_s"}
    steps_s = [[1, values["least_step_s"]], [FULL_BATCH, FULL_STEP_S]]
    return {"workload.profile": workload, "model.step_table_s": steps_s, **fields}


def paper_set_up(workload: str = "rag") -> Changes:
    """Fabric, model, prefill and one of the `WORKLOADS`; KeyError for another."""
    return {**_KNOWN, **fitted_changes(workload, published_fit()["workloads"][workload]["values"])}


PAPER_TRAFFIC: Changes = {
    "serving.stripes": 1,
    "serving.connections": "per_transfer",
    "congestion.kind": "constant",
    "congestion.utilisation": 0.15,
    "congestion.tiers": [1, 2, 3],
}
"""Its single path a transfer and its constant background, which a sweep over the age of telemetry replaces."""

DEFAULT_CLA_STAR: Changes = {f"policy_parameters.cla_star.{name}": value for name, value in
                             {"prefix": 4.0, "queue": 0.5, "memory": 0.5}.items()}  # fmt: skip
"""CLA*'s weights, which the fit was made with: its defaults."""
