"""What a port does to the frames that leave it: its rate, its queue and its delay, as commands for tc. Pure.

    netem (delay, where there is any)  ->  HTB (rate)  ->  pfifo or RED (queue), or a pfifo a connection in turn

The delay comes first: a queue must hold what waits for the shaper, and nothing that is merely on its way.
"""

from __future__ import annotations

import math
import shlex
import socket
from dataclasses import dataclass
from typing import Literal

from topologies.fabric import Fabric, Link

QueueKind = Literal["fifo", "red", "ecn", "fair"]

DEFAULT_QUEUE_PACKETS = 100
"""Capacity of a port's queue, frames. Our choice."""

DEFAULT_MARK_PACKETS = 20
"""K of Alizadeh et al., Data Center TCP, SIGCOMM 2010, for 1 Gbit/s."""

FRAME_B = 1_514
"""Ethernet's largest, without its checksum."""

HTB_QUANTUM_B = FRAME_B
"""Explicit, because tc derives one from the rate and complains (or stalls a class) when it falls out of its range."""

DEFAULT_BURST_S = 2e-3
"""HTB burst, seconds at the port's rate. Userspace switches deliver frames in batches: with a smaller burst the time
between two batches is lost capacity, with a larger one small transfers pass unshaped (docs/explanation/fidelity.md has
both). Mininet's own is 15 kB, whatever the rate."""

DELAY_LINE_PACKETS = 100_000
"""Capacity of the delay line, frames: 1.2 s of full frames at 1 Gbit/s."""

RED_PROBABILITY = 0.02
"""tc's own, and Floyd's; so are a maximum mean queue of a quarter of its capacity and a minimum
of a third of that (tc-red(8))."""

FAIR_QUEUES, FAIR_QUEUES_OF_MANY, MANY_HOSTS = 256, 128, 32
"""Queues of a fair port, and of one in a fabric of more than so many hosts. Connections that share a queue have the
share of one (workers/fair_queues.py). Each is a class of HTB, and for each new class the kernel walks a list of all."""

FAIR_QUEUES_OF_NVLINK = 8
"""Of a port between an instance and its server, where frames hardly wait: the network's ports are much slower."""

MUCH_FASTER = 4
"""Than a NIC: NVLink of so many times its rate has ports of so few queues. Our choice."""

FAIR_RATE_BIT = 8
"""Guaranteed to each of them, the least that tc takes: what is guaranteed leaves at once, whatever the port carries,
and with 8 kbit/s that were two frames of every connection. All above it is borrowed from the port, a frame in turn."""

FAIR_CLASSES = 0x100
"""The first of their class numbers."""

FAIR_OTHERS = 2
"""The class that takes what is neither TCP nor UDP over IPv4."""

FAIR_ACKNOWLEDGEMENTS = 3
"""The class of TCP segments without data, also those that open and end a connection, served before all others. In turn
with them an acknowledgement waited behind a round of the data that goes the other way at each port, and behind all
of a connection's that had its queue: scaled down, that is hundreds of times what a real fabric adds to a transfer.
They have a rate of their own beside the data's, because an acknowledgement for every other frame is 2 % of the data
that they are for, and hardware that gathers frames (LRO, GRO) sends one for 64 KB. On a link that background traffic
fills, 2 % of its rate was a seventh of what transfers had. Our choice; RoCE networks give congestion notifications
strict priority likewise."""

FAIR_FACTORS = (2_654_435_761, 2_246_822_519, 3_266_489_917)
"""Odd numbers that the words of a connection's name are mixed with. Our choice."""

BPF_RANDOM = 2**32 - 0x1000 + 56
"""Where a classic BPF program reads 32 random bits (Linux's networking/filter.rst, `rand`)."""

TC_STOLEN, TC_NEXT_FILTER = 4, 2**32 - 1
"""What a program says of a frame (tc-bpf(8), direct-action; Linux's pkt_cls.h): it is taken away, or is for the next
filter, -1."""

LOSSY_PRIORITY = 1
"""Before the filter that hands frames over."""

MIDDLE = ".m"
"""What the far end of a port's own cable is called, where a link is two cables (`middle_of`)."""


def fair_queue_count(hosts: int) -> int:
    """How many queues a fair port of the network has in a fabric of so many hosts."""
    return FAIR_QUEUES_OF_MANY if hosts > MANY_HOSTS else FAIR_QUEUES


def queues_of_cable(fabric: Fabric, upward: Link) -> int:
    """How many queues the fair ports of both ends of a cable have; `upward`: its link away from the hosts."""
    is_nvlink = upward.source not in fabric.switch_by_name
    if is_nvlink and upward.capacity_bps >= MUCH_FASTER * fabric.spec.nic_rate_bps:
        return FAIR_QUEUES_OF_NVLINK
    return fair_queue_count(len(fabric.instances))


def fair_program(queues: int) -> tuple[tuple[int, int, int, int], ...]:
    """What deals frames to a power of two of queues: a classic BPF program (Linux's networking/filter.rst), which
    tc-bpf(8) runs on every frame, as code, jumps and operand."""
    return (
        (0x28, 0, 0, 12),  # the EtherType
        (0x15, 0, 23, 0x0800),  # not IPv4: no class
        (0x30, 0, 0, 23),  # the protocol
        (0x15, 1, 0, 6),
        (0x15, 7, 20, 17),  # UDP: to the ports; neither TCP nor UDP: no class
        (0x30, 0, 0, 46),  # TCP's header in words of 4 bytes, the upper half of a byte
        (0x54, 0, 0, 0xF0),
        (0x74, 0, 0, 2),
        (0x04, 0, 0, 20),  # and IPv4's without options
        (0x07, 0, 0, 0),
        (0x28, 0, 0, 16),  # all of the packet
        (0x1D, 14, 0, 0),  # no more than both headers: an acknowledgement
        (0x20, 0, 0, 34),  # both ports, behind an IPv4 header without options
        (0x24, 0, 0, FAIR_FACTORS[0]),  # times an odd number, plus the next word
        (0x07, 0, 0, 0),
        (0x20, 0, 0, 26),  # the source
        (0x0C, 0, 0, 0),
        (0x24, 0, 0, FAIR_FACTORS[1]),
        (0x07, 0, 0, 0),
        (0x20, 0, 0, 30),  # the destination
        (0x0C, 0, 0, 0),
        (0x24, 0, 0, FAIR_FACTORS[2]),
        (0x74, 0, 0, 32 - _bits(queues)),  # the highest bits are the best mixed
        (0x04, 0, 0, 0x50000 + FAIR_CLASSES),
        (0x16, 0, 0, 0),  # the class is the hash
        (0x06, 0, 0, 0),  # no class: the default one
        (0x06, 0, 0, 0x50000 + FAIR_ACKNOWLEDGEMENTS),
    )


def fair_queue(source: str, target: str, source_port: int, target_port: int, queues: int = FAIR_QUEUES) -> int:
    """The queue, 0 to `queues` - 1, that TCP or UDP between these ends has at every port of so many; as `fair_program`.

    source, target: IPv4 addresses. The other direction has another queue.
    """
    mixed = 0
    words = (
        source_port << 16 | target_port,
        *(int.from_bytes(socket.inet_aton(one), "big") for one in (source, target)),
    )
    for word, factor in zip(words, FAIR_FACTORS, strict=True):
        mixed = (mixed + word) * factor & 0xFFFF_FFFF
    return mixed >> 32 - _bits(queues)


def _bits(queues: int) -> int:
    """How many bits a queue's number has."""
    return queues.bit_length() - 1


def middle_of(interface: str) -> str:
    """The far end of a port's own cable: where frames that the port sends arrive, and where those to it queue.

    A port of AF_XDP sends past the queueing discipline of its own device, so a link of two such ports is two cables,
    port and middle, with the frames handed over from middle to middle; what shapes a direction is the middle before the
    port that it leads to.
    """
    return interface + MIDDLE


def handover_lines(arriving: str, leaving: str) -> list[str]:
    """What `tc -batch` reads to send whatever arrives at one interface out of another (tc-mirred(8)).

    The filter is a program that takes every frame, as `matchall` does, which not every kernel has.
    """
    every_frame = "protocol all bpf bytecode '1,6 0 0 4294967295' flowid 1:1"
    return [
        f"qdisc add dev {arriving} handle ffff: ingress",
        f"filter add dev {arriving} parent ffff: {every_frame} action mirred egress redirect dev {leaving}",
    ]


class ShapingError(RuntimeError):
    """A rate, a queue or a delay that cannot be, or that tc refused; the message holds the interface."""


@dataclass(frozen=True)
class Shape:
    """One direction of a link.

    `rate_bps`: bit/s, at least 8. `queue_packets`: capacity of the queue, frames, at least 1. `queue`: `fifo`; `red`,
    which drops early and at random; `ecn`, which marks every frame beyond `mark_packets`; `fair`, where every
    connection has such a queue of its own and they are served in turn, as with rate control for each queue pair;
    connections are dealt to `queues` of them, a power of two; segments without data go first, beside the port's rate.
    `delay_s`: one-way delay, seconds. `burst_s`: HTB burst, seconds at the port's rate: how much an idle port may send
    at once, beside the frame that is due.
    """

    rate_bps: float
    queue_packets: int = DEFAULT_QUEUE_PACKETS
    queue: QueueKind = "fifo"
    mark_packets: int = DEFAULT_MARK_PACKETS
    delay_s: float = 0.0
    burst_s: float = DEFAULT_BURST_S
    queues: int = FAIR_QUEUES

    @property
    def burst_bytes(self) -> int:
        """The HTB burst, bytes."""
        return max(round(self.rate_bps / 8 * self.burst_s), 1)


def shaping_command(interface: str, shape: Shape) -> str:
    """The shell command that shapes one interface; ShapingError when a number of its shape makes no sense."""
    before, leaf, after = _shaping(interface, shape)
    lines = [f"printf '%s\\n' {' '.join(map(shlex.quote, before))}"]
    if leaf:  # not line by line: a terminal, as Mininet's shells have, takes 4095 characters
        last = FAIR_CLASSES + shape.queues - 1
        lines.append(f"printf '{leaf.format('%x')}\\n' {FAIR_OTHERS} $(seq {FAIR_CLASSES} {last})")
    lines.append(f"printf '%s\\n' {' '.join(map(shlex.quote, after))}")
    first = "".join(f"ip {line} && " for line in queue_length_lines(interface, shape))
    return f"{first}{{ {'; '.join(lines)}; }} | tc -batch -"


def shaping_lines(interface: str, shape: Shape) -> list[str]:
    """What `tc -batch` reads to shape one interface, after `queue_length_lines`; as `shaping_command`."""
    before, leaf, after = _shaping(interface, shape)
    numbers = [FAIR_OTHERS, *range(FAIR_CLASSES, FAIR_CLASSES + shape.queues)] if leaf else []
    return [*before, *(leaf.format(f"{number:x}") for number in numbers), *after]


def queue_length_lines(interface: str, shape: Shape) -> list[str]:
    """What `ip -batch` reads before an interface is shaped: how long its queues will be.

    A leaf without a discipline of its own is a pfifo as long as the interface's queue (tc-htb(8), tc-pfifo(8)).
    """
    return [f"link set dev {interface} txqueuelen {shape.queue_packets}"] if shape.queue == "fair" else []


def _shaping(interface: str, shape: Shape) -> tuple[list[str], str, list[str]]:
    """The lines for `tc -batch`: the first, one with a gap for the number of each queue's class, the last."""
    if not math.isfinite(shape.rate_bps) or shape.rate_bps < 8 or shape.queue_packets < 1:
        raise ShapingError(
            f"{interface}: cannot shape to {shape.rate_bps} bit/s with a queue of {shape.queue_packets} packets"
        )
    is_fair = shape.queue == "fair"
    before = [f"qdisc replace dev {interface} root pfifo limit 1"]  # HTB cannot be replaced by itself
    above = "root"
    if shape.delay_s:
        delay_us = max(round(shape.delay_s * 1e6), 1)
        delay = f"netem delay {delay_us}us limit {DELAY_LINE_PACKETS}"
        before.append(f"qdisc replace dev {interface} root handle 4: {delay}")
        above = "parent 4:1"
    rate = f"{round(shape.rate_bps)}bit"
    burst = f"cburst {shape.burst_bytes}b quantum {HTB_QUANTUM_B}"
    whole = f"htb rate {rate} ceil {rate} burst {shape.burst_bytes}b {burst}"
    before += [
        f"qdisc replace dev {interface} {above} handle 5: htb default {FAIR_OTHERS if is_fair else 1}",
        f"class add dev {interface} parent 5: classid 5:1 {whole}",
    ]
    if not is_fair:
        return before, "", [f"qdisc add dev {interface} parent 5:1 handle 10: {_queue(shape)}"]
    leaf = f"htb rate {FAIR_RATE_BIT}bit ceil {rate} burst 1b {burst} prio 1"
    program = fair_program(shape.queues)
    code = ",".join(" ".join(map(str, line)) for line in program)
    return (
        before,
        f"class add dev {interface} parent 5:1 classid 5:{{}} {leaf}",
        [
            f"class add dev {interface} parent 5: classid 5:{FAIR_ACKNOWLEDGEMENTS:x} {whole} prio 0",
            f'filter add dev {interface} parent 5: protocol all bpf bytecode "{len(program)},{code}"',
        ],
    )


def rate_command(interface: str, shape: Shape) -> str:
    """The shell command that gives an interface which is shaped already another rate; its queue stays as it is."""
    rate, burst = f"{max(round(shape.rate_bps), 8)}bit", f"{shape.burst_bytes}b"
    htb = f"htb rate {rate} ceil {rate} burst {burst} cburst {burst} quantum {HTB_QUANTUM_B}"
    change = f"tc class change dev {interface} parent 5: classid 5:"
    first = f" && {change}{FAIR_ACKNOWLEDGEMENTS:x} {htb} prio 0" if shape.queue == "fair" else ""
    return f"{change}1 {htb}{first}"


def lossy_command(interface: str, loss: float, arriving: bool) -> str:
    """The shell command that has an interface lose this part of its frames at random, as they arrive or as they leave.

    It replaces what an earlier one said. A sender in the same namespace learns nothing: the frames are not refused but
    taken away (Linux's pkt_cls.h: stolen). loss: above 0, below 1. arriving: at an interface of `handover_lines`.
    """
    program = (
        (0x20, 0, 0, BPF_RANDOM),
        (0x35, 1, 0, min(round(loss * 2**32), 2**32 - 1)),  # not less: to the last line
        (0x06, 0, 0, TC_STOLEN),
        (0x06, 0, 0, TC_NEXT_FILTER),
    )
    parent = "parent ffff:" if arriving else "egress"
    code = ",".join(" ".join(map(str, line)) for line in program)
    lossy = f"tc filter replace dev {interface} {parent} prio {LOSSY_PRIORITY} handle 1 protocol all bpf da bytecode"
    filtered = f"{lossy} '{len(program)},{code}'"
    return filtered if arriving else f"tc qdisc replace dev {interface} clsact && {filtered}"


def lossless_command(interface: str, arriving: bool) -> str:
    """The shell command that undoes `lossy_command`."""
    if arriving:
        return f"tc filter del dev {interface} parent ffff: prio {LOSSY_PRIORITY}"
    return f"tc qdisc del dev {interface} clsact"


def _queue(shape: Shape) -> str:
    if shape.queue == "fifo":
        return f"pfifo limit {shape.queue_packets}"
    limit_B = shape.queue_packets * FRAME_B
    bandwidth = (
        f"bandwidth {round(shape.rate_bps)}bit"  # how fast the mean forgets while idle; tc would assume 10 Mbit/s
    )
    if shape.queue == "ecn":
        # A step: the mean follows the last value but for a half, and beyond the least every frame is marked.
        least_B = shape.mark_packets * FRAME_B
        return (
            f"red limit {limit_B} min {least_B} max {least_B + FRAME_B} avpkt {FRAME_B}"
            f" burst {shape.mark_packets} probability 1 {bandwidth} ecn"
        )
    most_B = max(limit_B // 4, 3 * FRAME_B)
    least_B = most_B // 3
    burst = math.ceil((2 * least_B + most_B) / (3 * FRAME_B))
    return (
        f"red limit {limit_B} min {least_B} max {most_B} avpkt {FRAME_B}"
        f" burst {burst} probability {RED_PROBABILITY} {bandwidth}"
    )
