"""What a user can get wrong around a run. The command line turns each of these into one line and exit code 2.

Exit code 3 for a `BrokenClusterError`, and where a shortage of the machine is behind one (`shortage_behind`).
"""

from __future__ import annotations

LONGEST_LINE = 380
"""Characters of a complaint: more is not read, and what a user gave may be in it."""


class SpecError(ValueError):
    """A specification that cannot be used; the message is one line naming the place."""


class StoreError(ValueError):
    """A run folder that cannot be written or read; the message names it."""


class ClusterError(RuntimeError):
    """A cluster that cannot be reached or cannot do the work; the message names it and, where there is one, the
    remedy."""


class BrokenClusterError(ClusterError):
    """A cluster that failed its sweep when that was under way: workers or processes died of a run, or all are gone."""


def one_line(text: str) -> str:
    """A complaint as it is shown: one line, nothing in it that a terminal would obey, its middle left out if long."""
    line = " ".join(text.split())
    line = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} ... {line[5 - half :]}"
