"""What a port does to the frames that leave it: its rate, its queue and its delay, as commands for tc. Pure.

    netem (delay, where there is any)  ->  HTB (rate)  ->  pfifo or RED (queue)

The delay comes first: a queue must hold what waits for the shaper, and nothing that is merely on its way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

QueueKind = Literal["fifo", "red", "ecn"]

DEFAULT_QUEUE_PACKETS = 100

DEFAULT_MARK_PACKETS = 20
"""K of Alizadeh et al., Data Center TCP, SIGCOMM 2010, for 1 Gbit/s."""

FRAME_B = 1_514
"""Ethernet's largest, without its checksum."""

HTB_QUANTUM_B = FRAME_B
"""Explicit, because tc derives one from the rate and complains (or stalls a class) when it falls out of its range."""

LEAST_BURST_B = 15_000
"""Bucket of the shaper: ten frames, Mininet's own choice (`burst 15k`)."""

BURST_S = 200e-6
"""What a faster shaper may send at once: its timer is that late at times, and what it then may not send is lost."""

DELAY_LINE_PACKETS = 100_000
"""Room for what is on its way: 1.2 s of full frames at 1 Gbit/s."""

RED_PROBABILITY = 0.02
"""tc's own, and Floyd's; so are a largest mean of a quarter of the room and a least of a third of that (tc-red(8))."""


class ShapingError(RuntimeError):
    """A rate, a queue or a delay that cannot be, or that tc refused; the message holds the interface."""


@dataclass(frozen=True)
class Shape:
    """One direction of a link.

    `queue_packets`: room of the queue, frames. `queue`: `fifo`; `red`, which drops early and at random; `ecn`, which
    marks every frame beyond `mark_packets`. `delay_s`: how long a frame is on its way, seconds.
    """

    rate_bps: float
    queue_packets: int = DEFAULT_QUEUE_PACKETS
    queue: QueueKind = "fifo"
    mark_packets: int = DEFAULT_MARK_PACKETS
    delay_s: float = 0.0

    @property
    def burst_bytes(self) -> int:
        """How far the shaper may run ahead of its rate."""
        return max(LEAST_BURST_B, round(self.rate_bps / 8 * BURST_S))


def shaping_command(interface: str, shape: Shape) -> str:
    """The shell command that shapes one interface; ShapingError when a number of its shape makes no sense."""
    if not math.isfinite(shape.rate_bps) or shape.rate_bps < 8 or shape.queue_packets < 1:
        raise ShapingError(
            f"{interface}: cannot shape to {shape.rate_bps} bit/s with a queue of {shape.queue_packets} packets"
        )
    above = "root"
    commands = [f"tc qdisc del dev {interface} root 2>/dev/null; true"]  # HTB cannot be changed in place
    if shape.delay_s:
        delay_us = max(round(shape.delay_s * 1e6), 1)
        commands.append(
            f"tc qdisc add dev {interface} root handle 4: netem delay {delay_us}us limit {DELAY_LINE_PACKETS}"
        )
        above = "parent 4:1"
    rate = f"rate {round(shape.rate_bps)}bit ceil {round(shape.rate_bps)}bit"
    burst = f"burst {shape.burst_bytes}b cburst {shape.burst_bytes}b quantum {HTB_QUANTUM_B}"
    commands += [
        f"tc qdisc add dev {interface} {above} handle 5: htb default 1",
        f"tc class add dev {interface} parent 5: classid 5:1 htb {rate} {burst}",
        f"tc qdisc add dev {interface} parent 5:1 handle 10: {_queue(shape)}",
    ]
    return " && ".join(commands)


def _queue(shape: Shape) -> str:
    if shape.queue == "fifo":
        return f"pfifo limit {shape.queue_packets}"
    limit_B = shape.queue_packets * FRAME_B
    if shape.queue == "ecn":
        # A step: the mean is the last value seen but for a half, and beyond the least every frame is marked.
        least_B = shape.mark_packets * FRAME_B
        return (
            f"red limit {limit_B} min {least_B} max {least_B + FRAME_B} avpkt {FRAME_B}"
            f" burst {shape.mark_packets} probability 1 ecn"
        )
    most_B = max(limit_B // 4, 3 * FRAME_B)
    least_B = most_B // 3
    burst = math.ceil((2 * least_B + most_B) / (3 * FRAME_B))
    return f"red limit {limit_B} min {least_B} max {most_B} avpkt {FRAME_B} burst {burst} probability {RED_PROBABILITY}"
