"""One line of what `netkv doctor` has to say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `ok`, what was found, and the remedy, a command where there is one, where it is not.

    `absent`: it is not there, and ok because nothing needs it that was not asked for.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""
    absent: bool = False
