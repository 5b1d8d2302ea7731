"""Where a router under test listens, as `--policy` names it: a URL of this machine.

    http://127.0.0.1:8000/select               TCP on loopback
    http+unix:/tmp/router.sock:/select         a Unix socket, then the path that is asked for
    http://127.0.0.1:8000/select#snapshot      what follows # is for us and is not sent (RFC 3986, section 3.5)

Options behind #, joined by +: `snapshot` (send the telemetry snapshot, too), `remote` (allow a host that is not this
machine).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from scheduler.errors import PolicyError
from topologies import did_you_mean

TCP, UNIX = "http://", "http+unix:"
SCHEMES = (TCP, UNIX, "https://", "unix:")
"""What is taken for a URL at all; the last two are refused with a reason."""

OPTIONS = ("snapshot", "remote")
LONGEST_SOCKET_PATH = 107
"""Bytes of sun_path but for the final NUL: unix(7)."""

EXPECTED = "http://HOST:PORT/PATH or http+unix:/SOCKET:/PATH was expected"


@dataclass(frozen=True)
class RouterUrl:
    """One router's address. `socket`: the path of its Unix socket, empty for TCP. `target`: what the request line asks
    for. `snapshot`: whether it wants the telemetry snapshot."""

    text: str
    host: str
    port: int
    socket: str
    target: str
    snapshot: bool

    @property
    def authority(self) -> str:
        """The Host header."""
        if self.socket:
            return "localhost"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_router_url(name: str) -> bool:
    """Whether the name of a policy is meant as the address of a router."""
    return name.startswith(SCHEMES)


def parse_router_url(text: str) -> RouterUrl:
    """The address in a policy's name. PolicyError with what was expected when it is none, or not of this machine."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise _refused(text, "only printable ASCII without blanks (encode others as %XX)")
    address, _, fragment = text.partition("#")
    options = fragment.split("+") if fragment else []
    for option in options:
        if option not in OPTIONS:
            raise _refused(text, f"{option!r} is not one of {', '.join(OPTIONS)}{did_you_mean(option, OPTIONS)}")
    snapshot = "snapshot" in options
    if address.startswith(UNIX):
        path, _, target = address.removeprefix(UNIX).partition(":")
        if not PurePosixPath(path).is_absolute() or len(path) > LONGEST_SOCKET_PATH or not target.startswith("/"):
            raise _refused(text, f"{EXPECTED}, an absolute path of at most {LONGEST_SOCKET_PATH} bytes")
        return RouterUrl(text, "localhost", 0, path, target, snapshot)
    if not address.startswith(TCP):
        raise _refused(text, EXPECTED)
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port if parts.port is not None else 80
    except ValueError as problem:
        raise _refused(text, str(problem)) from None
    if not host or not port or "@" in parts.netloc:
        raise _refused(text, EXPECTED)
    if not _is_loopback(host) and "remote" not in options:
        raise _refused(text, f"{host} is not this machine's loopback (add #remote if that is meant)")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return RouterUrl(text, host, port, "", target, snapshot)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(text: str, reason: str) -> PolicyError:
    return PolicyError(f"policy: {text}: {reason}")
