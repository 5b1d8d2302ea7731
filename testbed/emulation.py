"""How the real system is scaled onto this machine: the part of a specification that only the emulated world has."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from testbed.switches import datapath_in_force
from topologies import DEFAULT_BURST_S, DEFAULT_MARK_PACKETS, DEFAULT_QUEUE_PACKETS, QueueKind

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AUTO = "auto"

RATE_SCALE_OF_DATAPATH = {"user": 5000.0, "kernel": 200.0}
"""By datapath: a 200 Gbit/s NIC becomes a 40 Mbit/s link where one process forwards every packet, and a 1 Gbit/s link
where the kernel does, on every processor: it takes some four of them (docs/vm.md)."""


def _usual_rate_scale(validated: dict[str, Any]) -> float:
    return RATE_SCALE_OF_DATAPATH[validated.get("datapath", "user")]


class EmulationSpec(BaseModel):
    """How the real system is scaled down and on what it runs.

    `rate_scale` divides link rates and blob bytes (times stay); `time_dilation` stretches every time of the system. A
    transfer of B bytes over a link of R bit/s becomes B / rate_scale bytes over R / (rate_scale x time_dilation) bit/s
    and takes time_dilation times as long; results are given in real-system units. `datapath` is Open vSwitch's; `auto`,
    for it and for `rate_scale`, is what this machine has, and what it stood for is what is recorded.

    `queue` is the discipline of every port, and `queue_packets` the room of a queue: `fair`, a queue for each
    connection, in turn; `fifo`; `red`, which drops early; `ecn`, which marks beyond `mark_packets`, as DCTCP wants it.
    The defaults are those that bring packets nearest to the fluid on two cores (docs/fidelity.md). Every link delays by
    `link_delay_ms` and, with `hop_latency`, by what a hop of the real fabric takes, dilated.
    `burst_ms` is how much of its time an idle port may catch up on and send at once. `congestion_control` is TCP's,
    `rto_min_ms` its least retransmission time-out and `initial_window_packets` its first window (Linux by itself: 200
    ms and 10); `limit_output_bytes` is how much of a connection may wait in its host's own queue
    (`tcp_limit_output_bytes`; by itself Linux allows a millisecond's worth, 1 to 4 MB at most); stripes that are
    `paced` send at most at the rate of a server's NIC, never a whole window at once. `ecmp` is the hashing (`select`
    is the negative control that polarises) and `ecmp_seed` its seed, `vswitchd` one process for all switches or each
    its own, `controller` the OpenFlow framework, `prometheus_port` that of its text endpoint on the loopback inside
    the sandbox (none by default). `bringup_deadline_s` bounds the wait for the fabric, `run_deadline_s` one run beyond
    its last arrival.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    datapath: Literal["user", "kernel"] = Field(default_factory=lambda: datapath_in_force()[0])
    rate_scale: float = Field(default_factory=_usual_rate_scale, ge=1, allow_inf_nan=False)
    time_dilation: Annotated[float, Field(ge=0.1, le=100, allow_inf_nan=False)] = 1.0
    queue: QueueKind = "fair"
    queue_packets: Annotated[int, Field(ge=1, le=100_000)] = DEFAULT_QUEUE_PACKETS
    mark_packets: Annotated[int, Field(ge=1, le=10_000)] = DEFAULT_MARK_PACKETS
    burst_ms: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 1e3 * DEFAULT_BURST_S
    link_delay_ms: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    hop_latency: bool = False
    congestion_control: Literal["cubic", "reno", "bbr", "dctcp"] = "cubic"
    rto_min_ms: Annotated[int, Field(ge=1, le=1000)] = 100
    initial_window_packets: Annotated[int, Field(ge=1, le=1000)] = 10
    limit_output_bytes: Annotated[int, Field(ge=1, le=2**30)] | None = None
    paced: bool = True
    ecmp: Literal["bundle", "select"] = "bundle"
    ecmp_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    vswitchd: Literal["shared", "own"] = "shared"
    controller: Literal["ryu", "os_ken"] = "ryu"
    controller_port: Annotated[int, Field(ge=1, le=65535)] = 6653
    prometheus_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    bringup_deadline_s: PositiveSeconds = 60.0
    run_deadline_s: PositiveSeconds = 120.0

    @model_validator(mode="before")
    @classmethod
    def _auto_is_the_default(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if name not in ("datapath", "rate_scale") or value != AUTO}

    @model_validator(mode="after")
    def _dctcp_sees_marks(self) -> EmulationSpec:
        if self.congestion_control == "dctcp" and self.queue != "ecn":
            raise ValueError("congestion_control: dctcp goes by marks: it needs queue=ecn")
        return self

    @model_validator(mode="after")
    def _the_kernel_forwards_for_all(self) -> EmulationSpec:
        if self.vswitchd == "own" and self.datapath != "user":
            raise ValueError("vswitchd: own is for datapath=user, where that process forwards the packets")
        return self

    def link_delay_s(self, hop_latency_s: float) -> float:
        """Delay of every link of the emulation, where a hop of the real fabric takes `hop_latency_s`."""
        return self.link_delay_ms / 1e3 + self.hop_latency * hop_latency_s * self.time_dilation

    @property
    def link_divisor(self) -> float:
        """What a real link rate is divided by."""
        return self.rate_scale * self.time_dilation
