"""The controller's configuration: defaults that work, and one clear line for everything that does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controller.config import DEFAULT_RATE_SCALE, ConfigError, ControllerConfig, load_config, parse_config
from controller.driver import DriverError, chosen_driver
from testbed.emulation import RATE_SCALE_OF_DATAPATH
from topologies import FabricSpec


def test_no_file_is_the_default_fabric() -> None:
    assert load_config(None) == ControllerConfig() == parse_config({})
    assert ControllerConfig().fabric == FabricSpec()


def test_the_default_scale_is_that_of_the_topology_and_of_the_testbed() -> None:
    from topologies.mininet import DEFAULT_RATE_SCALE as IN_MININET  # not above: its tests tell when Mininet is missing

    assert DEFAULT_RATE_SCALE == IN_MININET == RATE_SCALE_OF_DATAPATH["user"]


def test_a_file_sets_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "controller.json"
    path.write_text(
        json.dumps({"fabric": {"pods": 3}, "rate_scale": 1e4, "ecmp": "select", "seed": 5, "prometheus_port": 9464})
    )
    config = load_config(str(path))
    assert (config.fabric.pods, config.rate_scale, config.ecmp, config.seed) == (3, 1e4, "select", 5)
    assert (config.prometheus_port, config.poll_s) == (9464, 0.1)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ([], "configuration: .* is not an object"),
        ({"polls": 1}, "unknown polls"),
        ({"fabric": {"podz": 2}}, "fabric: unknown podz"),
        ({"fabric": {"pods": 0}}, "fabric: pods: 0 is below 1"),
        ({"fabric": 3}, "fabric: 3 is not an object"),
        ({"rate_scale": 0}, "rate_scale: 0 is not between"),
        ({"rate_scale": "fast"}, "rate_scale: 'fast' is not a number"),
        ({"rate_scale": float("nan")}, "rate_scale: nan is not a number"),
        ({"poll_s": 0.001}, "poll_s: 0.001 is not between"),
        ({"poll_s": True}, "poll_s: True is not a number"),
        ({"prometheus_port": 0}, "prometheus_port: 0 is not a whole number from 1 to 65535"),
        ({"prometheus_port": "http"}, "prometheus_port: 'http' is not a whole number"),
        ({"ecmp": "flood"}, "ecmp: 'flood' is not one of bundle, select"),
        ({"ecmp": ["bundle"]}, "ecmp: .* is not one of"),
        ({"seed": 1.5}, "seed: 1.5 is not a whole number"),
        ({"seed": 2**32}, "seed: .* is not a whole number from"),
        ({"oracle_socket": "here.sock"}, "oracle_socket: 'here.sock' is not an absolute path"),
        ({"oracle_socket": "/" + "x" * 107}, "oracle_socket: a Unix socket's path holds at most 107 bytes"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(document: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_config(document)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"poll_s": 99}'])
def test_a_bad_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.json"):
        load_config(str(path))
    with pytest.raises(ConfigError, match=r"none\.json: No such file"):
        load_config(str(tmp_path / "none.json"))


def test_the_driver_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETKV_OPENFLOW", "os_ken")
    assert chosen_driver() == "os_ken"
    monkeypatch.setenv("NETKV_OPENFLOW", "faucet")
    with pytest.raises(DriverError, match="'faucet' is not one of ryu, os_ken"):
        chosen_driver()
