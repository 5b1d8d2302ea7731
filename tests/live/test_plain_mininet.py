"""`topologies/mininet.py` in plain Mininet: `mn --custom`, the system's Python, our controller as a remote one."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.support.live.in_a_sandbox import in_sandbox

pytestmark = [pytest.mark.live, pytest.mark.slow]

SMALL = {"racks_per_pod": 1, "servers_per_rack": 1}


def mn(*arguments: str) -> subprocess.CompletedProcess[str]:
    return in_sandbox("tests.support.live.plain_mininet", json.dumps({"fabric": SMALL}), *arguments)


def fattree4(**options: int) -> tuple[str, ...]:
    return (
        "--custom",
        "topologies/mininet.py",
        "--topo",
        ",".join(["fattree4", *(f"{k}={v}" for k, v in options.items())]),
    )


def test_pingall_reaches_everyone(live_machine: None) -> None:
    done = mn(
        *fattree4(**SMALL),
        *("--switch", "ovs,datapath=user"),
        *("--controller", "remote,ip=127.0.0.1,port=6653"),
        *("--test", "pingall"),
    )
    assert done.returncode == 0, done.stderr
    assert "0% dropped (12/12 received)" in done.stdout


def test_an_unknown_parameter_is_named(live_machine: None) -> None:
    done = mn(*fattree4(podz=2), "--test", "none")
    assert "FabricError: fattree4: got an unexpected keyword argument 'podz'" in done.stdout
