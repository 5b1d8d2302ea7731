"""Random moments at which something of a command is killed: which command, which process, which signal, when. Pure."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass

Signals = tuple[signal.Signals, ...]
SIGNALS: tuple[Signals, ...] = (
    *((signal.SIGKILL,), (signal.SIGTERM,), (signal.SIGINT,), (signal.SIGHUP,)),
    (signal.SIGSTOP, signal.SIGKILL),
)

RUN, SWEEP, JOBS = "run", "sweep", "sweep --jobs 2"
SHARES = {RUN: 0.3, SWEEP: 0.3, JOBS: 0.4}
"""Of the moments. What is below the command line in the analytic world is there with --jobs alone."""

BELOW = 0.7
"""Share of the moments that hit a process below the command line, where there can be one."""

LONGEST_STOP_S = 0.5
COMMAND_LINE, GUARDIAN = "command line", "guardian"

ROLES = (
    ("experiments.running.world_runner", "run process"),
    ("multiprocessing.resource_tracker", "resource tracker"),
    ("multiprocessing.spawn", "Dask worker"),
    ("send_buffer.py", GUARDIAN),
    ("ovs-vswitchd", "vswitchd"),
    ("ovsdb-server", "ovsdb-server"),
    ("testbed.sandbox_main", "sandbox"),
    ("controller", "controller"),
    ("workers.", "worker"),
)
"""What a process is, by what is in its command."""


@dataclass(frozen=True)
class Moment:
    """One killing: `at` is the share of the command's usual time that passes before it, `pick` chooses the process."""

    number: int
    command: str
    signals: Signals
    below: bool
    at: float
    pick: float
    stopped_s: float

    def __str__(self) -> str:
        whom = "a process below it" if self.below else "the command line"
        return f"{self.number}: {name_of(self.signals)} to {whom} of `netkv {self.command}` at {self.at:.0%}"


def moments(seed: int, count: int, world: str = "analytic") -> list[Moment]:
    """The same moments for the same seed. Every signal comes about as often as every other."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        command = rng.choices(list(SHARES), list(SHARES.values()))[0]
        below = (command == JOBS or world == "emulated") and rng.random() < BELOW
        made.append(
            Moment(
                number,
                command,
                SIGNALS[number % len(SIGNALS)],
                below,
                rng.uniform(0.3 if below else 0.0, 1.0),  # a process below is there when all is imported
                rng.random(),
                rng.uniform(0, LONGEST_STOP_S),
            )
        )
    return made


def role_of(command: str) -> str:
    """What a process below the command line is."""
    return next((role for sign, role in ROLES if sign in command), "other")


def victim(moment: Moment, command_line: int, below: Mapping[int, str]) -> tuple[int, str]:
    """The process to kill and its role. Of the roles that are there each is as likely, however many have it."""
    if not moment.below or not below:
        return command_line, COMMAND_LINE
    roles = sorted({role_of(command) for command in below.values()})
    place = moment.pick * len(roles)
    role = roles[int(place)]
    with_role = sorted(pid for pid, command in below.items() if role_of(command) == role)
    return with_role[int((place % 1) * len(with_role))], role


def name_of(signals: Signals) -> str:
    return "+".join(one.name for one in signals)


def allowed_codes(signals: Signals, role: str, world: str) -> set[int]:
    """How the command may end: by itself, as if nothing had been, interrupted, or broken.

    An emulated run that was disturbed may be invalid, which is 1.
    """
    whole = {0} if world == "analytic" else {0, 1}
    if role == COMMAND_LINE:
        last = signals[-1]
        return whole | ({-last} if last == signal.SIGKILL else {128 + last, -last})
    return whole | {3}
