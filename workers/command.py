"""One command of the driver, parsed from a JSON line: typed fields, or a one-line error.

Owns the validation of what arrives on the control socket; the worker that executes a command owns its meaning.
"""

from __future__ import annotations

import json
import reprlib
import socket
from itertools import pairwise
from typing import Any

PORT_MAX = 65_535
SECONDS_MAX = 1e8  # three years; select(2), which waits for timers, takes no more than some hundred
RATE_MIN_BPS, RATE_MAX_BPS = 1e-3, 1e15  # the time of a datagram, and a pacing rate, fit their types
ADDRESSES_MAX = 4096
INTEGER_MAX = 2**64 - 1  # the widest field of the wire header

SHOWN = 80
"""Characters that an error shows of what the driver has sent."""


class CommandError(ValueError):
    """A command that cannot be executed; its message is one line for the driver."""


class Command:
    """A JSON object with a `do`, whose fields are fetched by type.

    Every getter raises `CommandError` with the command, the field and the expected value.
    """

    def __init__(self, line: bytes) -> None:
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise CommandError(f"not a JSON line: {error}") from error
        except RecursionError:
            raise CommandError("not a JSON line: nested too deep") from None
        if not isinstance(fields, dict) or not isinstance(fields.get("do"), str):
            raise CommandError('a command is a JSON object with a string "do"')
        self.fields: dict[str, Any] = fields
        self.do: str = fields["do"]

    def integer(self, name: str, minimum: int = 0, maximum: int = INTEGER_MAX) -> int:
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise self._error(name, f"an integer of {minimum} to {maximum}")
        return value

    def increasing(self, name: str, maximum: int) -> list[int]:
        """Whole numbers from 1 to `maximum`, each above the one before it; none when the field is missing."""
        values = self.fields.get(name, [])
        right = isinstance(values, list) and all(type(value) is int for value in values)
        if not right or any(after <= before for before, after in pairwise((0, *values, maximum + 1))):
            raise self._error(name, f"a list of increasing integers of 1 to {maximum}")
        return list(values)

    def seconds(self, name: str) -> float:
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= SECONDS_MAX:
            raise self._error(name, f"a number of seconds, 0 to {SECONDS_MAX:g}")
        return float(value)

    def share(self, name: str) -> float:
        """A number of 0 to below 1; 0 when the field is missing."""
        value = self.fields.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise self._error(name, "a number of 0 to below 1")
        return float(value)

    def rate_bps(self, name: str) -> float | None:
        """Bits per second, or None (no limit) when the field is null or missing."""
        value = self.fields.get(name)
        if value is None:
            return None
        right = isinstance(value, int | float) and not isinstance(value, bool)
        if not right or not RATE_MIN_BPS <= value <= RATE_MAX_BPS:
            raise self._error(name, f"null or a number of bits per second, {RATE_MIN_BPS:g} to {RATE_MAX_BPS:g}")
        return float(value)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.fields.get(name, choices[0])
        if value not in choices:
            raise self._error(name, " or ".join(choices))
        return str(value)

    def address(self, name: str) -> tuple[str, int]:
        return self._address(name, self.fields.get(name))

    def addresses(self, name: str) -> list[tuple[str, int]]:
        values = self.fields.get(name)
        if not isinstance(values, list) or len(values) > ADDRESSES_MAX:
            raise self._error(name, f"a list of at most {ADDRESSES_MAX} [IPv4 address, port]")
        return [self._address(name, value) for value in values]

    def _address(self, name: str, value: object) -> tuple[str, int]:
        match value:
            case [str(host), int(port)] if 0 < port <= PORT_MAX and _is_ipv4(host):
                return host, port
        raise self._error(name, "[IPv4 address, port]")

    def _error(self, name: str, wanted: str) -> CommandError:
        found = reprlib.repr(self.fields.get(name))[:SHOWN]
        return CommandError(f"{self.do[:SHOWN]}: {name!r} must be {wanted}, not {found}")


def _is_ipv4(host: str) -> bool:
    """Whether no name would have to be looked up."""
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):  # ValueError: a NUL, or what UTF-8 cannot write
        return False
    return True
