"""An emulated run seen from the host: nothing of it listens there, and its workers are nobody."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.live.small_fabric import ON_A_SMALL_FABRIC
from tests.support.paths import ROOT
from workers.privileges import CAP_NET_ADMIN, NOBODY

pytestmark = [pytest.mark.live, pytest.mark.untimed, pytest.mark.usefixtures("live_machine")]

LISTENING = "0A"
TABLES = ("tcp", "tcp6", "udp", "udp6", "raw")
ROLES = {"workers.prefill", "workers.decode"}
SUDO_USER = 12_345
DEADLINE_S = 180.0
SHORT = (
    *(*ON_A_SMALL_FABRIC, "--requests", "20", "--set", "workload.max_input_tokens=8000"),
    *("--set", "workload.max_output_tokens=8", "--set", "workload.speedup=2"),
)


@dataclass
class Seen:
    """What was seen of a run from outside: sockets that its processes hold, those of the host's namespace among them
    that anybody could reach, its workers by role and /proc/PID/status, the modes of what is in the sandbox's folder for
    sockets and of the folder, and its processes."""

    out: Path
    sockets: set[str] = field(default_factory=set)
    reachable: set[str] = field(default_factory=set)
    workers: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    modes: dict[str, int] = field(default_factory=dict)
    processes: set[int] = field(default_factory=set)


def reachable_here() -> dict[str, str]:
    """The sockets of this process's own namespace that others could reach, by inode: TCP that listens, UDP and raw."""
    found = {}
    for table in TABLES:
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if not table.startswith("tcp") or fields[3] == LISTENING:
                found[fields[9]] = f"{table} {fields[1]}"
    return found


def below(pid: int) -> list[Path]:
    """The folders in /proc of a process and all that it has started, through whatever lies between."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return [Path(f"/proc/{one}") for one in found]


def sockets_of(place: Path) -> set[str]:
    """The inodes of the sockets that a process holds."""
    links = []
    with suppress(OSError):
        for handle in (place / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                links.append(os.readlink(handle))
    return {link[8:-1] for link in links if link.startswith("socket:")}


def look(seen: Seen, pid: int) -> None:
    workers = []
    for place in below(pid):
        with suppress(OSError):
            fields = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines() if ":\t" in line)
            command = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
            workers += [(word, fields) for word in command if word in ROLES and fields["Name"] != "mnexec"]
        seen.sockets |= sockets_of(place)
        seen.processes.add(int(place.name))
        with suppress(OSError):
            private = place / "root" / "run" / "netkv"
            found = {"folder": private} | {file.name: file for file in private.glob("*.sock")}
            seen.modes |= {name: stat.S_IMODE(file.stat().st_mode) for name, file in found.items()}
    if len(workers) >= len(seen.workers) and all(fields["NoNewPrivs"] == "1" for _, fields in workers):
        seen.workers = workers
    seen.reachable |= {name for inode, name in reachable_here().items() if inode in seen.sockets}


@pytest.fixture(scope="module")
def seen(live_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A short run, looked at while it goes on."""
    found = Seen(tmp_path_factory.mktemp("run") / "results" / "run")
    command = [sys.executable, "-m", "experiments.cli", "run", *SHORT, "--out", str(found.out)]
    environment = os.environ | {"SUDO_UID": str(SUDO_USER), "SUDO_GID": str(SUDO_USER)}
    until_s = time.monotonic() + DEADLINE_S
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as run:
        while run.poll() is None and time.monotonic() < until_s:
            look(found, run.pid)
            time.sleep(0.1)
        run.kill()
    return found


def test_nothing_listens_on_the_hosts_own_interfaces(seen: Seen) -> None:
    assert {role for role, _ in seen.workers} == ROLES
    assert len(seen.sockets) > len(seen.workers), "no socket of the run was seen: this proves nothing"
    assert seen.reachable == set()


def test_what_looks_for_listeners_would_see_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Seen(Path())
        look(found, os.getpid())
        assert f"tcp 0100007F:{listener.getsockname()[1]:04X}" in found.reachable


def test_workers_are_nobody_with_one_capability_at_most(seen: Seen) -> None:
    assert seen.workers
    for _, fields in seen.workers:
        assert set(fields["Uid"].split()) == set(fields["Gid"].split()) == {str(NOBODY)}
        assert int(fields["CapPrm"], 16) | 1 << CAP_NET_ADMIN == 1 << CAP_NET_ADMIN


def test_sockets_are_their_owners_alone_in_a_folder_of_his_own(seen: Seen) -> None:
    assert seen.modes == {"folder": 0o700, "control.sock": 0o600, "oracle.sock": 0o600}


def test_the_processes_of_jobs_listen_nowhere(tmp_path: Path) -> None:
    found = Seen(tmp_path / "sweep")
    small = ("--world", "analytic", "--requests", "40", "--policies", "round_robin", "--refresh", "1", "--jobs", "2")
    command = [
        sys.executable,
        "-m",
        "experiments.cli",
        "sweep",
        "staleness",
        *small,
        "--out",
        str(found.out),
        "--quiet",
    ]
    until_s = time.monotonic() + DEADLINE_S
    with subprocess.Popen(command, cwd=ROOT) as sweep:
        while sweep.poll() is None and time.monotonic() < until_s:
            look(found, sweep.pid)
            time.sleep(0.05)
        sweep.kill()
    assert sweep.returncode == 0
    assert len(found.processes) > 2
    assert found.reachable == set()


def test_results_belong_to_who_called_sudo(seen: Seen) -> None:
    assert (seen.out / "requests.parquet").is_file()
    assert {place.stat().st_uid for place in (seen.out.parent, seen.out, *seen.out.rglob("*"))} == {SUDO_USER}
