"""How the real system is scaled onto this machine: the part of a specification that only the emulated world has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EmulationSpec(BaseModel):
    """How the real system is scaled down and on what it runs.

    `rate_scale` divides link rates and blob bytes (times stay); `time_dilation` stretches every time of the system. A
    transfer of B bytes over a link of R bit/s becomes B / rate_scale bytes over R / (rate_scale x time_dilation) bit/s
    and takes time_dilation times as long; results are given in real-system units. `queue_packets` is the FIFO of every
    port, `congestion_control` TCP's, `rto_min_ms` its least retransmission time-out and `initial_window_packets` its
    first window (Linux by itself: 200 ms and 10), `ecmp` the hashing (`select` is the negative control that polarises)
    and `ecmp_seed` its seed, `controller` the OpenFlow framework. `bringup_deadline_s` bounds the wait for the fabric,
    `run_deadline_s` one run beyond its last arrival.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate_scale: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2500.0
    time_dilation: Annotated[float, Field(ge=0.1, le=100, allow_inf_nan=False)] = 1.0
    queue_packets: Annotated[int, Field(ge=1, le=100_000)] = 100
    congestion_control: Literal["cubic", "reno", "bbr", "dctcp"] = "cubic"
    rto_min_ms: Annotated[int, Field(ge=1, le=1000)] = 100
    initial_window_packets: Annotated[int, Field(ge=1, le=1000)] = 10
    ecmp: Literal["bundle", "select"] = "bundle"
    ecmp_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    controller: Literal["ryu", "os_ken"] = "ryu"
    controller_port: Annotated[int, Field(ge=1, le=65535)] = 6653
    datapath: Literal["auto", "user", "kernel"] = "auto"
    bringup_deadline_s: PositiveSeconds = 60.0
    run_deadline_s: PositiveSeconds = 120.0

    @property
    def link_divisor(self) -> float:
        """What a real link rate is divided by."""
        return self.rate_scale * self.time_dilation
