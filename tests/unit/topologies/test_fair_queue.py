"""The hash of a fair port, run here as the kernel runs it, and the command that installs it."""

import ipaddress
import os
import re
import struct
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from topologies import FabricSpec, build_fattree
from topologies.shaping import (
    FAIR_ACKNOWLEDGEMENTS,
    FAIR_CLASSES,
    FAIR_QUEUES,
    Shape,
    fair_program,
    fair_queue,
    queue_length_lines,
    queues_of_cable,
    shaping_command,
    shaping_lines,
)

WORD = (1 << 32) - 1


def classified(frame: bytes, queues: int = FAIR_QUEUES) -> int:
    """What the program returns: a class by major and minor number, 0 for none (Linux's networking/filter.rst)."""
    program = fair_program(queues)
    at, a, x = 0, 0, None
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        match code:
            case 0x20 | 0x28 | 0x30:
                width = {0x20: 4, 0x28: 2, 0x30: 1}[code]
                a = int.from_bytes(frame[operand : operand + width], "big")
            case 0x15:
                at += if_true if a == operand else if_false
            case 0x1D:
                assert x is not None
                at += if_true if a == x else if_false
            case 0x54:
                a &= operand
            case 0x24:
                a = a * operand & WORD
            case 0x0C:
                assert x is not None
                a = a + x & WORD
            case 0x04:
                a = a + operand & WORD
            case 0x74:
                a >>= operand
            case 0x07:
                x = a
            case 0x16:
                return a
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"unknown code {code:#x}")


def frame(
    source: str,
    target: str,
    ports: tuple[int, int],
    protocol: int = 6,
    ethertype: int = 0x0800,
    data: int = 1,
    options: int = 12,
) -> bytes:
    """Up to and with a TCP header of so many bytes of options; `data`: how many bytes of data it announces."""
    ends = (ipaddress.ip_address(source).packed, ipaddress.ip_address(target).packed)
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + options + data, 0, 0, 64, protocol, 0, *ends)
    segment = struct.pack("!HHIIBBHHH", *ports, 0, 0, (20 + options) // 4 << 4, 0x10, 0, 0, 0) + bytes(options)
    return bytes(12) + struct.pack("!H", ethertype) + header + segment


def test_connections_are_spread_over_all_queues_and_nothing_else() -> None:
    used = Counter(
        classified(frame(f"10.0.0.{source}", "10.1.0.1", (port, 7001)))
        for source in range(1, 9)
        for port in range(32_768, 32_768 + 2 * 512, 2)
    )
    first = 0x50000 + FAIR_CLASSES
    assert set(used) == set(range(first, first + FAIR_QUEUES))
    assert max(used.values()) < 3 * 8 * 512 / FAIR_QUEUES


def test_the_stripes_of_a_transfer_rarely_share_a_queue() -> None:
    shared = 0
    for port in range(32_768, 60_000, 8):
        stripes = {classified(frame("10.0.0.1", "10.1.0.1", (port + 2 * stripe, 7001))) for stripe in range(4)}
        shared += len(stripes) < 4
    assert shared / len(range(32_768, 60_000, 8)) < 0.05


def test_what_is_no_tcp_and_no_udp_gets_the_default_class() -> None:
    assert classified(frame("10.0.0.1", "10.0.0.2", (0, 0), protocol=1)) == 0
    assert classified(frame("10.0.0.1", "10.0.0.2", (1, 2), ethertype=0x0806)) == 0
    assert classified(frame("10.0.0.1", "10.0.0.2", (1, 2), protocol=17)) > 0


@pytest.mark.parametrize(
    ("changes", "of_nvlink", "of_network"),
    [
        ({}, 8, 256),
        (
            {"servers_per_rack": 12, "pods": 1, "racks_per_pod": 1},
            8,
            256,
        ),  # trunks as fast as six NICs
        ({"pods": 8}, 8, 128),
        ({"nvlink_rate_bps": 200e9, "nic_rate_bps": 100e9}, 256, 256),
    ],
)
def test_few_queues_are_enough_for_ports_of_nvlink_alone(
    changes: dict[str, Any], of_nvlink: int, of_network: int
) -> None:
    fabric = build_fattree(FabricSpec(**changes))
    hosts = {instance.name for instance in fabric.instances}
    found = [(link.source in hosts, queues_of_cable(fabric, link)) for link in fabric.links if link.index % 2 == 0]
    assert {queues for is_nvlink, queues in found if is_nvlink} == {of_nvlink}
    assert {queues for is_nvlink, queues in found if not is_nvlink} == {of_network}


@pytest.mark.parametrize("options", [0, 12, 40])
def test_a_segment_without_data_goes_first_and_one_with_data_does_not(options: int) -> None:
    first = 0x50000 + FAIR_ACKNOWLEDGEMENTS
    assert classified(frame("10.0.0.1", "10.0.0.2", (7001, 40_000), data=0, options=options)) == first
    assert classified(frame("10.0.0.1", "10.0.0.2", (7001, 40_000), data=1, options=options)) != first
    assert classified(frame("10.0.0.1", "10.0.0.2", (1, 2), protocol=17, data=0, options=options)) != first
    command = shaping_command("tor0-eth1", Shape(20e6, queue="fair"))
    assert f"parent 5: classid 5:{FAIR_ACKNOWLEDGEMENTS} htb rate 20000000bit ceil 20000000bit" in command
    assert re.search(rf"classid 5:{FAIR_ACKNOWLEDGEMENTS} htb .* prio 0'", command)
    assert re.search(r"classid 5:%x htb .* prio 1\\n", command)


def test_the_command_makes_every_queue_and_lets_it_borrow_the_whole_rate() -> None:
    command = shaping_command("tor0-eth1", Shape(20e6, queue_packets=70, queue="fair"))
    assert "htb default 2'" in command
    assert "ip link set dev tor0-eth1 txqueuelen 70 && " in command
    assert f"$(seq {FAIR_CLASSES} {FAIR_CLASSES + FAIR_QUEUES - 1})" in command
    assert command.count("ceil 20000000bit") == 3
    assert "handle 10: pfifo" not in command


@pytest.mark.parametrize("shape", [Shape(20e6, queue="fair", queues=8), Shape(1e9, delay_s=1e-3), Shape(1e6)])
def test_a_shell_has_tc_read_the_lines_that_many_interfaces_are_shaped_by(shape: Shape, tmp_path: Path) -> None:
    """With programs in place of both tools, which keep what they are asked."""
    asked = tmp_path / "asked"
    for tool, script in (("tc", f"cat >> {asked}"), ("ip", f"echo $* >> {asked}")):
        (tmp_path / tool).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / tool).chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", shaping_command("tor0-eth1", shape)], env=path, check=True, timeout=30)
    lines = [*queue_length_lines("tor0-eth1", shape), *shaping_lines("tor0-eth1", shape)]
    assert asked.read_text().splitlines() == lines
    assert len(lines) == (15 if shape.queue == "fair" else 4 + bool(shape.delay_s))


@pytest.mark.parametrize("queues", [8, 128, 256])
def test_the_queue_that_is_reckoned_is_the_one_of_the_program(queues: int) -> None:
    for source, target in (("10.0.0.1", "10.1.1.18"), ("10.1.1.18", "10.0.0.1"), ("10.3.2.17", "10.0.1.2")):
        for ports in ((16_384, 7001), (65_535, 7002), (7001, 40_000)):
            found = classified(frame(source, target, ports), queues) - 0x50000 - FAIR_CLASSES
            assert fair_queue(source, target, *ports, queues) == found
