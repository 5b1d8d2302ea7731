"""How the real system is abstracted: the part of a specification that only the analytic world has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class SimulationSpec(BaseModel):
    """`network`: `fluid` shares every link max-min fairly among all connections at every instant; `closed_form` gives a
    transfer bytes over the tier bandwidth left at its start, which is what a model without a network would claim.

    `spreading`: how connections choose among equal-cost paths: `hashed` at random from the seed, as ECMP does, or
    `ideal`, dealt out evenly (fluid only). `link_sample_s`: seconds between two rows of a link in the results, more
    where the run would otherwise write over `most_link_rows` rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Literal["fluid", "closed_form"] = "fluid"
    spreading: Literal["hashed", "ideal"] = "hashed"
    link_sample_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0
    most_link_rows: Annotated[int, Field(ge=1, le=10_000_000)] = 200_000
