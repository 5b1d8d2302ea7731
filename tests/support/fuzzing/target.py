"""A target: how its cases are made, what reads them, and how it may refuse one."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from experiments.running import one_line

LONGEST_MESSAGE = 400
CASE_DEADLINE_S = 30.0
"""A case of some kilobytes takes milliseconds: beyond this it hangs, on a busy machine too."""


class FaultError(AssertionError):
    """A case that was neither taken nor refused in one line."""


class HangError(BaseException):
    """A case that did not end; no `except Exception` on its way stops it."""


@dataclass(frozen=True)
class Target:
    """`make(rng)` gives the bytes of a case, `read(folder, case)` has them read, with `folder` to write to.

    `refusals`: the errors that a reader may raise; any other one is a fault, as is a hang, or a refusal of several
    lines or without the `place` that it is about.
    """

    name: str
    make: Callable[[random.Random], bytes]
    read: Callable[[Path, bytes], None]
    refusals: tuple[type[Exception], ...]
    place: str = ""

    def case(self, seed: int) -> bytes:
        """The bytes of a case; the same for a seed, whatever came before."""
        return self.make(random.Random(f"{self.name}:{seed}"))

    def check(self, folder: Path, case: bytes) -> bool:
        """Have a case read: whether it was refused. FaultError when it was neither taken nor refused well."""
        try:
            try:
                with within(CASE_DEADLINE_S):
                    self.read(folder, case)
            except HangError:  # the machine may have stood still: a case that hangs does so again
                with within(CASE_DEADLINE_S):
                    self.read(folder, case)
        except self.refusals as problem:
            check_message(str(problem), self.place)
            return True
        except HangError:
            raise FaultError(f"hangs: not read after {CASE_DEADLINE_S:g} s") from None
        except FaultError:
            raise
        except Exception as problem:
            raise FaultError(f"{type(problem).__name__}: {str(problem)[:200]}") from problem
        return False


def check_message(text: str, place: str) -> None:
    """FaultError unless a message, as the command line shows it, is a line that can be read and names the place."""
    text = one_line(text)
    if len(text) > LONGEST_MESSAGE:
        raise FaultError(f"not a line that can be read ({len(text)} characters): {text[:200]!r}")
    if place not in text:
        raise FaultError(f"does not say where: {text!r}")
    if not text.isprintable():
        raise FaultError(f"not printable: {text!r}")


@contextmanager
def within(deadline_s: float) -> Iterator[None]:
    """HangError in the main thread when the context lasts longer."""

    def hang(_signal: int, _frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, deadline_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
