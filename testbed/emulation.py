"""How the real system is scaled onto this machine: the part of a specification that only the emulated world has."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from testbed.datapath import Datapath, choose_datapath
from topologies import DEFAULT_BURST_S, DEFAULT_MARK_PACKETS, DEFAULT_QUEUE_PACKETS, QueueKind

AUTO = "auto"

RATE_SCALE_OF_DATAPATH = {"user": 5000.0, "afxdp": 5000.0, "kernel": 200.0}
"""Default by datapath. `user`, `afxdp`: a 200 Gbit/s NIC becomes a 40 Mbit/s link, because one thread forwards every
packet. `kernel`: it becomes a 1 Gbit/s link, which needs about four processors
(docs/explanation/kernel-datapath.md)."""


BURST_S_OF_DATAPATH = {"user": DEFAULT_BURST_S, "afxdp": 1e-3, "kernel": DEFAULT_BURST_S}
"""Default by datapath, seconds. A thread that polls delivers frames in smaller batches than vswitchd's main thread;
what an idle port passes at once makes a lone transfer shorter (docs/explanation/fidelity.md)."""

FROM_THE_MACHINE = ("datapath", "rate_scale", "burst_ms")
"""Fields whose default the machine decides: the datapath, and by it the others. `auto` asks for that."""


def _default_rate_scale(validated: dict[str, Any]) -> float:
    return RATE_SCALE_OF_DATAPATH[validated.get("datapath", "user")]


def _default_burst_ms(validated: dict[str, Any]) -> float:
    return 1e3 * BURST_S_OF_DATAPATH[validated.get("datapath", "user")]


class EmulationSpec(BaseModel):
    """How the real system is scaled down, and which switches, queues, TCP and controller emulate it.

    A transfer of B bytes over a link of R bit/s becomes B / rate_scale bytes over R / (rate_scale x time_dilation)
    bit/s and takes time_dilation times as long. Results are given in real-system units. The defaults are the settings
    whose results are closest to the fluid model on two cores (docs/explanation/fidelity.md).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    datapath: Datapath = Field(
        default_factory=lambda: choose_datapath(ports=0)[0],
        description="Open vSwitch's datapath. `kernel`: the module openvswitch. `afxdp`: a thread of its own, which"
        " polls AF_XDP sockets. `user`: ovs-vswitchd's main thread."
        " `auto` (default): the first of these that the machine has for the fabric, as `netkv doctor` says; the choice"
        " is recorded.",
    )
    rate_scale: float = Field(
        default_factory=_default_rate_scale,
        ge=1,
        allow_inf_nan=False,
        description="Divisor of link rates and of transferred bytes, at least 1; transfer times stay the same."
        " `auto` (default): 5000 for datapath=user and afxdp, 200 for datapath=kernel.",
    )
    time_dilation: float = Field(
        1.0,
        ge=0.1,
        le=100,
        allow_inf_nan=False,
        description="Factor on every time of the system, 0.1 to 100: at 2 a run takes twice as long and links have"
        " half the rate.",
    )
    queue: QueueKind = Field(
        "fair",
        description="Queueing discipline of every port. `fair`: one queue for each connection, served in turn,"
        " acknowledgements first, beside the port's rate. `fifo`: one queue. `red`: one queue with early drops."
        " `ecn`: one queue that marks packets beyond `mark_packets`, as DCTCP needs.",
    )
    queue_packets: int = Field(
        DEFAULT_QUEUE_PACKETS, ge=1, le=100_000, description="Capacity of a port's queue, packets, 1 to 100,000."
    )
    mark_packets: int = Field(
        DEFAULT_MARK_PACKETS,
        ge=1,
        le=10_000,
        description="Queue length from which queue=ecn marks packets, packets, 1 to 10,000.",
    )
    burst_ms: float = Field(
        default_factory=_default_burst_ms,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="HTB burst of every port, milliseconds at the port's rate, 0 to 100: how much an idle port may"
        " send at once. `auto` (default): 1 for datapath=afxdp, 2 for others.",
    )
    link_delay_ms: float = Field(
        0.0,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="Added one-way delay of every link, wall milliseconds, 0 to 1000; more than 0 needs netem.",
    )
    hop_latency: bool = Field(
        False,
        description="Whether every link is also delayed by the fabric's own `hop_latency_s`, times `time_dilation`;"
        " needs netem.",
    )
    congestion_control: Literal["cubic", "reno", "bbr", "dctcp"] = Field(
        "cubic", description="TCP congestion control of every connection; `dctcp` needs queue=ecn."
    )
    rto_min_ms: int = Field(
        100,
        ge=1,
        le=1000,
        description="TCP's minimum retransmission timeout, wall milliseconds, 1 to 1000 (Linux's own default: 200).",
    )
    initial_window_packets: int = Field(
        10, ge=1, le=1000, description="TCP's initial congestion window, segments, 1 to 1000 (Linux's own default: 10)."
    )
    limit_output_bytes: int | None = Field(
        None,
        ge=1,
        le=2**30,
        description="Most bytes of one connection in its host's own queue, 1 to 2^30 (`tcp_limit_output_bytes`)."
        " None (default): Linux's own limit, a millisecond at the current rate, 1 to 4 MB at most.",
    )
    paced: bool = Field(
        True,
        description="Whether each stripe of a transfer sends at most at the emulated rate of a server's NIC, instead of"
        " a whole window at once.",
    )
    ecmp: Literal["bundle", "select"] = Field(
        "bundle",
        description="ECMP hashing. `bundle`: a different hash on every switch. `select`: the same hash on every level,"
        " the negative control, which polarises.",
    )
    ecmp_seed: int = Field(0, ge=0, lt=2**32, description="Seed of the ECMP hashes, 0 to 2^32 - 1.")
    vswitchd: Literal["shared", "own"] = Field(
        "shared",
        description="Processes of Open vSwitch. `shared`: one ovs-vswitchd for all switches. `own`: one for each"
        " switch (datapath=user only).",
    )
    controller: Literal["ryu", "os_ken"] = Field("ryu", description="OpenFlow framework that runs the controller.")
    controller_port: int = Field(
        6653, ge=1, le=65535, description="TCP port of the controller on the sandbox's loopback, 1 to 65535."
    )
    prometheus_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="TCP port of the Prometheus endpoint on the sandbox's loopback, 1 to 65535. None (default): no"
        " endpoint.",
    )
    alto_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="TCP port of an ALTO server on the sandbox's loopback, fed by the oracle, 1 to 65535. None"
        " (default): no server.",
    )
    bringup_deadline_s: float = Field(
        60.0,
        gt=0,
        allow_inf_nan=False,
        description="Longest wait until every port is shaped, and then until every switch is programmed, wall seconds,"
        " more than 0.",
    )
    run_deadline_s: float = Field(
        120.0,
        gt=0,
        allow_inf_nan=False,
        description="Longest time from a run's last arrival to its end, and longest time of one transfer, s, more than"
        " 0; `time_dilation` times as long by the wall clock.",
    )

    @model_validator(mode="before")
    @classmethod
    def _auto_is_the_default(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        asked = {name: value for name, value in given.items() if name not in FROM_THE_MACHINE or value != AUTO}
        return {"datapath": "user", **asked} if asked.get("vswitchd") == "own" else asked

    @model_validator(mode="after")
    def _dctcp_needs_marks(self) -> EmulationSpec:
        if self.congestion_control == "dctcp" and self.queue != "ecn":
            raise ValueError("congestion_control: dctcp reacts to ECN marks: it needs queue=ecn")
        return self

    @model_validator(mode="after")
    def _own_vswitchd_needs_the_user_datapath(self) -> EmulationSpec:
        if self.vswitchd == "own" and self.datapath != "user":
            raise ValueError("vswitchd: own needs datapath=user, where ovs-vswitchd forwards the packets")
        return self

    @model_validator(mode="after")
    def _every_server_has_its_own_port(self) -> EmulationSpec:
        taken = {self.controller_port: "controller_port"}
        for name in ("prometheus_port", "alto_port"):
            port = getattr(self, name)
            if port is not None and taken.setdefault(port, name) != name:
                raise ValueError(f"{name}: {port} is the {taken[port]}: choose another")
        return self

    def for_ports(self, ports: int) -> EmulationSpec:
        """This emulation of switches with so many ports: a datapath that nobody asked for is chosen anew."""
        if "datapath" in self.model_fields_set or (datapath := choose_datapath(ports)[0]) == self.datapath:
            return self
        asked = {name: getattr(self, name) for name in self.model_fields_set}
        return EmulationSpec.model_validate({**asked, "datapath": datapath})

    def link_delay_s(self, hop_latency_s: float) -> float:
        """Delay of every link of the emulation, where a hop of the real fabric takes `hop_latency_s`."""
        return self.link_delay_ms / 1e3 + self.hop_latency * hop_latency_s * self.time_dilation

    @property
    def deadline_s(self) -> float:
        """`run_deadline_s` by the wall clock."""
        return self.run_deadline_s * self.time_dilation

    @property
    def link_divisor(self) -> float:
        """What a real link rate is divided by."""
        return self.rate_scale * self.time_dilation
