"""How the real system is abstracted: the part of a specification that only the analytic world has."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SimulationSpec(BaseModel):
    """The network model of the analytic world, and how much of it is written down."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: Literal["fluid", "closed_form"] = Field(
        "fluid",
        description="`fluid`: at every instant all connections share every link max-min fairly. `closed_form`: a"
        " transfer lasts its bytes over the tier bandwidth left at its start, as in models without a network.",
    )
    spreading: Literal["hashed", "ideal"] = Field(
        "hashed",
        description="How connections choose among equal-cost paths; network=fluid only. `hashed`: at random, as ECMP"
        " does. `ideal`: evenly.",
    )
    link_sample_s: float = Field(
        5.0,
        gt=0,
        allow_inf_nan=False,
        description="Interval between two rows of a link in links.parquet, s, above 0; longer where a run would write"
        " more than `most_link_rows` rows.",
    )
    most_link_rows: int = Field(
        200_000, ge=1, le=10_000_000, description="Most rows in links.parquet, 1 to 10,000,000."
    )
