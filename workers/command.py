"""One command of the driver, parsed from a JSON line: typed fields, or a one-line error.

Owns the validation of what arrives on the control socket; the worker that executes a command owns its meaning.
"""

from __future__ import annotations

import json
from typing import Any

PORT_MAX = 65_535
INTEGER_MAX = 2**64 - 1  # the widest field of the wire header


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
        if not isinstance(fields, dict) or not isinstance(fields.get("do"), str):
            raise CommandError('a command is a JSON object with a string "do"')
        self.fields: dict[str, Any] = fields
        self.do: str = fields["do"]

    def integer(self, name: str, minimum: int = 0, maximum: int = INTEGER_MAX) -> int:
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise self._error(name, f"an integer of {minimum} to {maximum}")
        return value

    def seconds(self, name: str) -> float:
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise self._error(name, "a finite number of seconds, not negative")
        return float(value)

    def rate_bps(self, name: str) -> float | None:
        """Bits per second, or None (no limit) when the field is null or missing."""
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise self._error(name, "null or a positive number of bits per second")
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
        if not isinstance(values, list):
            raise self._error(name, "a list of [IPv4 address, port]")
        return [self._address(name, value) for value in values]

    def _address(self, name: str, value: object) -> tuple[str, int]:
        match value:
            case [str(host), int(port)] if 0 < port <= PORT_MAX:
                return host, port
        raise self._error(name, "[IPv4 address, port]")

    def _error(self, name: str, wanted: str) -> CommandError:
        return CommandError(f"{self.do}: {name!r} must be {wanted}, not {self.fields.get(name)!r}")
