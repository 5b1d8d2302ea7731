"""The configuration of the apps: a JSON file named by `NETKV_CONTROLLER_CONFIG`; without it, the default fabric.

    {"fabric": {"pods": 2, ...}, "rate_scale": 2500, "ecmp": "bundle", "seed": 0,
     "poll_s": 0.1, "oracle_socket": "/run/netkv/oracle.sock", "prometheus_port": null}

Every key is optional; `fabric` holds the fields of `topologies.FabricSpec`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from controller.flow_tables import ECMP_MODES
from topologies import FabricError, FabricSpec

ENVIRONMENT_VARIABLE = "NETKV_CONTROLLER_CONFIG"
DEFAULT_RATE_SCALE = 5000.0
"""As in `topologies.mininet`, which cannot be imported where Mininet is not installed; a test holds them equal."""

SOCKET_PATH_LIMIT_B = 107
"""sun_path holds 108 bytes with its final zero (unix(7))."""


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the field and the reason."""


@dataclass(frozen=True)
class ControllerConfig:
    """The fabric in real units and how it is controlled.

    - `rate_scale`: real bit/s for one emulated bit/s, 1e-6 to 1e12.
    - `ecmp`: `bundle`, or `select` as the negative control.
    - `seed`: of the ECMP hashes, 0 to 2^32 - 1.
    - `poll_s`: seconds between polls of the port counters, 0.01 to 60.
    - `oracle_socket`: absolute path of the Unix socket that serves the cost document, at most 107 bytes.
    - `prometheus_port`: TCP port of the Prometheus endpoint on 127.0.0.1, 1 to 65535; None for no endpoint.

    Raises ConfigError when a field is out of range.
    """

    fabric: FabricSpec = field(default_factory=FabricSpec)
    rate_scale: float = DEFAULT_RATE_SCALE
    ecmp: str = "bundle"
    seed: int = 0
    poll_s: float = 0.1
    oracle_socket: str = "/run/netkv/oracle.sock"
    prometheus_port: int | None = None

    def __post_init__(self) -> None:
        _check_number("rate_scale", self.rate_scale, least=1e-6, most=1e12)
        _check_number("poll_s", self.poll_s, least=0.01, most=60)
        _check_whole("seed", self.seed, least=0, most=2**32 - 1)
        if self.prometheus_port is not None:
            _check_whole("prometheus_port", self.prometheus_port, least=1, most=65535)
        if self.ecmp not in ECMP_MODES:
            raise ConfigError(f"ecmp: {self.ecmp!r} is not one of {', '.join(ECMP_MODES)}")
        if not isinstance(self.oracle_socket, str) or not os.path.isabs(self.oracle_socket):
            raise ConfigError(f"oracle_socket: {self.oracle_socket!r} is not an absolute path")
        if len(os.fsencode(self.oracle_socket)) > SOCKET_PATH_LIMIT_B:
            raise ConfigError(f"oracle_socket: a Unix socket's path holds at most {SOCKET_PATH_LIMIT_B} bytes")


def parse_config(document: object) -> ControllerConfig:
    """A configuration from parsed JSON; ConfigError for anything that is not one."""
    given = _fields_of("configuration", document, {item.name for item in fields(ControllerConfig)})
    if "fabric" in given:
        spec = _fields_of("fabric", given["fabric"], {item.name for item in fields(FabricSpec)})
        try:
            given["fabric"] = FabricSpec(**spec)
        except FabricError as problem:
            raise ConfigError(f"fabric: {problem}") from problem
    return ControllerConfig(**given)


def load_config(path: str | None) -> ControllerConfig:
    """The configuration in the file at `path`, the default one for None; ConfigError names the file."""
    if path is None:
        return ControllerConfig()
    try:
        return parse_config(json.loads(Path(path).read_text(encoding="utf-8")))
    except OSError as problem:
        raise ConfigError(f"{path}: {problem.strerror}") from problem
    except ValueError as problem:  # invalid JSON, invalid UTF-8 or ConfigError
        raise ConfigError(f"{path}: {problem}") from problem


def config_from_environment() -> ControllerConfig:
    """The configuration in the file that `NETKV_CONTROLLER_CONFIG` names, or the default one."""
    return load_config(os.environ.get(ENVIRONMENT_VARIABLE) or None)


def _fields_of(what: str, document: object, known: set[str]) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        raise ConfigError(f"{what}: {document!r} is not an object")
    unknown = sorted(str(key) for key in document if key not in known)
    if unknown:
        raise ConfigError(f"{what}: unknown {', '.join(unknown)} (known: {', '.join(sorted(known))})")
    return dict(document)


def _check_whole(name: str, value: object, *, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{name}: {value!r} is not a whole number from {least} to {most}")


def _check_number(name: str, value: object, *, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{name}: {value!r} is not a number")
    if not least <= value <= most:
        raise ConfigError(f"{name}: {value} is not between {least:g} and {most:g}")
