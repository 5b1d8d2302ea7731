"""How Open vSwitch is started: one daemon for all switches, or one for each."""

import json
import socket
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from testbed.cpu_monitor import SchedulingTimes, forwarding_threads, wait_share
from testbed.emulation import EmulationSpec
from testbed.switches import SwitchDaemon
from testbed.vswitchd import VSwitchd


def test_the_daemon_of_all_is_where_the_tools_look_for_it() -> None:
    create, server, init, daemon = SwitchDaemon().commands()
    assert create[2] == server[1] == "/etc/openvswitch/conf.db"
    assert "--remote=punix:/run/openvswitch/db.sock" in server
    assert "--db=unix:/run/openvswitch/db.sock" in init
    assert daemon[2:6] == ["nice", "-n", "-10", "ovs-vswitchd"]
    assert not [word for word in daemon if "dummy" in word or "unixctl" in word]


def test_daemons_of_two_switches_share_no_file() -> None:
    def files(name: str) -> set[str]:
        words = [word for command in SwitchDaemon(name).commands() for word in command]
        return {word.rpartition("=")[2].removeprefix("p") for word in words if "/run/" in word or ".db" in word}

    assert len(files("tor0")) == 6
    assert not files("tor0") & files("tor1")


def test_daemons_of_their_own_are_for_the_userspace_datapath() -> None:
    assert EmulationSpec(datapath="user", vswitchd="own").vswitchd == "own"
    with pytest.raises(ValidationError, match="vswitchd: own needs datapath=user"):
        EmulationSpec(datapath="kernel", vswitchd="own")


def serve(listener: socket.socket, name: str) -> None:
    peer, _ = listener.accept()
    with peer:
        while question := peer.recv(1 << 16):
            asked = json.loads(question)
            peer.sendall(json.dumps({"id": asked["id"], "result": f"{name}\n", "error": None}).encode())


def test_a_switch_is_asked_by_its_name_and_all_when_none_is_named(tmp_path: Path) -> None:
    with ExitStack() as stack:
        for name in ("tor0", "tor1"):
            listener = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            listener.bind(str(tmp_path / f"ovs-vswitchd.{name}.ctl"))
            listener.listen()
            threading.Thread(target=serve, args=(listener, name), daemon=True).start()
        vswitchd = stack.enter_context(VSwitchd(tmp_path))
        assert vswitchd.ask("ofproto/trace", "tor1", "tcp") == "tor1\n"
        assert vswitchd.ask("dpif/show") == "tor0\ntor1\n"


@pytest.mark.parametrize(
    ("names", "forwarding"),
    [(["ovs-vswitchd", "pmd-c01/id:9", "revalidator7"], "12"), (["ovs-vswitchd", "revalidator7"], "10")],
)
def test_poll_mode_threads_forward_where_there_are_any(tmp_path: Path, names: list[str], forwarding: str) -> None:
    for thread, name in zip(("10", "12", "14"), names, strict=False):
        (tmp_path / "10" / "task" / thread).mkdir(parents=True)
        (tmp_path / "10" / "task" / thread / "comm").write_text(f"{name}\n")
    assert [thread.name for thread in forwarding_threads(tmp_path / "10")] == [forwarding]


def test_one_daemon_waits_for_what_it_waits_and_of_many_the_busy_ones_count() -> None:
    before = {"busy": SchedulingTimes(10.0, 1.0), "idle": SchedulingTimes(5.0, 0.5)}
    after = {"busy": SchedulingTimes(10.2, 1.05), "idle": SchedulingTimes(5.0, 0.7)}
    assert wait_share({"busy": before["busy"]}, {"busy": after["busy"]}, 0.25) == pytest.approx(0.2)
    assert wait_share(before, after, 0.25) == pytest.approx(0.2)
    assert wait_share({}, {"one": SchedulingTimes(0.3, 0.0), "other": SchedulingTimes(0.1, 0.2)}, 1.0) == pytest.approx(
        0.05
    )
    assert wait_share(after, after, 0.25) == wait_share({}, {}, 0.25) == 0.0
