#!/usr/bin/env python3
"""Boots a guest that `vm/build_box.sh` has built, sets it up as `vagrant up` would, and runs the tests inside it.

    python3 vm/smoke.py FOLDER          FOLDER holds disk.qcow2 and key

The processor is emulated (QEMU's TCG), so this works on any machine, slowly, and says nothing about speed. The guest
writes to a layer over the disk, which goes with the process. Standard library only; needs no root.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

PROJECT = Path(__file__).resolve().parent.parent
DEADLINE_S = float(os.environ.get("NETKV_VM_DEADLINE_S", "1500"))
CPUS = os.environ.get("NETKV_CPUS", "2")
MEMORY_MIB = os.environ.get("NETKV_MEMORY", "3072")
PREFIX = os.environ.get("NETKV_VM_PREFIX", "").split()
"""Prefix of QEMU's command line, for example `nice`."""

GUEST_PROJECT = "netkv"
GUEST_CERTIFICATES = "/tmp/netkv-certificates.pem"
REQUESTS = 4
RESULTS = "results/smoke"
SETTINGS = (
    *("--set fabric.racks_per_pod=1", "--set emulation.rate_scale=20000", "--set emulation.time_dilation=4"),
    *("--set emulation.bringup_deadline_s=400", "--set emulation.run_deadline_s=300"),
)
"""A small fabric with link rates that an emulated processor can carry."""

LAST_LINES = 25


class FailedStepError(Exception):
    """A failed step; the message has its name and the output."""


class Guest:
    """A virtual machine that runs while the context lasts. FailedStepError when a command fails or is late."""

    def __init__(self, folder: Path, until_s: float) -> None:
        for name in ("disk.qcow2", "key"):
            if not (folder / name).exists():
                raise FailedStepError(f"{folder / name} is missing: sudo vm/build_box.sh {folder}")
        self._folder = folder
        self._until_s = until_s
        self._work = Path(tempfile.mkdtemp(prefix="netkv-guest.", dir=folder))
        self._console = self._work / "console.log"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Guest:
        layer = self._work / "layer.qcow2"
        disk = str((self._folder / "disk.qcow2").resolve())
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", layer], check=True)
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", *PREFIX),
                *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-machine", "q35"),
                *("-smp", CPUS, "-m", MEMORY_MIB, "-nodefaults", "-display", "none"),
                *("-drive", f"file={layer},if=virtio,cache=unsafe", "-device", "virtio-rng-pci"),
                *("-nic", f"user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{self._port}-:22"),
                *("-serial", f"file:{self._console}"),
            ],
            stdin=subprocess.DEVNULL,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._work)

    def wait_for_login(self) -> None:
        """Return once the guest accepts commands."""
        while True:
            if self._process is not None and self._process.poll() is not None:
                raise FailedStepError(f"QEMU ended with exit code {self._process.returncode}")
            if self._ssh("true", quiet=True, deadline_s=60).returncode == 0:
                return
            if time.monotonic() > self._until_s:
                raise FailedStepError(f"no login; the guest's console:\n{tail(self._console)}")
            time.sleep(2)

    def run(self, command: str, *, shown: bool = False, stdin: Path | None = None) -> str:
        """Run a command in a login shell of the guest's user and return its output; `shown` prints it instead."""
        with (stdin or Path(os.devnull)).open("rb") as source:
            done = self._ssh(f"bash -lc {quoted(command)}", source=source, shown=shown)
        if done.returncode != 0:
            raise FailedStepError(f"`{command}` failed with exit code {done.returncode}:\n{done.stdout}")
        return str(done.stdout)

    def reboot(self) -> None:
        """Reboot, and return once the guest accepts commands."""
        boot = "cat /proc/sys/kernel/random/boot_id"
        before = self.run(boot)
        self.run("sudo systemd-run --quiet --on-active=1 systemctl reboot")
        while True:
            self.wait_for_login()
            answer = self._ssh(boot, quiet=True, deadline_s=60)
            if answer.returncode == 0 and answer.stdout != before:
                return

    def copy_project(self) -> None:
        """Copy the project's files and its Git history, without ignored files."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT, stdout=subprocess.PIPE, check=True,
        ).stdout  # fmt: skip
        files = [name for name in listed.split(b"\0") if name and (PROJECT / os.fsdecode(name)).exists()]
        archive = self._work / "project.tar"
        packing = ["tar", "--create", "--null", "--files-from=-", f"--file={archive}", ".git"]
        subprocess.run(packing, cwd=PROJECT, input=b"\0".join(files), check=True)
        self.run(f"mkdir -p {GUEST_PROJECT} && tar -x -C {GUEST_PROJECT}", stdin=archive)

    def _ssh(
        self,
        command: str,
        *,
        source: int | IO[bytes] = subprocess.DEVNULL,
        quiet: bool = False,
        shown: bool = False,
        deadline_s: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        arguments = [
            *("ssh", "-q", "-p", str(self._port), "-i", str(self._folder / "key")),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"),
            *("-o", "ConnectTimeout=45", "-o", "ServerAliveInterval=60", "-o", "ServerAliveCountMax=10"),
            *("vagrant@127.0.0.1", command),
        ]
        left_s = max(self._until_s - time.monotonic(), 1.0)
        try:
            return subprocess.run(
                arguments,
                stdin=source,
                stdout=None if shown else subprocess.PIPE,
                stderr=subprocess.DEVNULL if quiet else subprocess.STDOUT,
                text=True,
                timeout=min(left_s, deadline_s or left_s),
                check=False,
            )
        except subprocess.TimeoutExpired:
            if quiet:
                return subprocess.CompletedProcess(arguments, 255)
            raise FailedStepError(f"`{command}` did not end before the deadline for all steps") from None


def environment_of_guest(guest: Guest) -> str:
    """Assignments that let the guest reach Debian and PyPI as this machine does, its certificates copied there.

    Settings with this machine's loopback or local files are left out: they have no meaning in the guest.
    """
    settings = {name: os.environ.get(name, "") for name in ("http_proxy", "https_proxy", "no_proxy")}
    settings |= {pip_variable(name): pip_setting(name) for name in ("index-url", "extra-index-url")}
    here = ("file:", "localhost", "127.0.0.1", "[::1]")
    settings = {name: value for name, value in settings.items() if value and not any(word in value for word in here)}
    if certificates := pip_setting("cert"):
        guest.run(f"cat > {GUEST_CERTIFICATES}", stdin=Path(certificates))
        settings[pip_variable("cert")] = GUEST_CERTIFICATES
    return " ".join(f"{name}={quoted(value)}" for name, value in settings.items())


def pip_variable(option: str) -> str:
    return f"PIP_{option.upper().replace('-', '_')}"


def pip_setting(option: str) -> str:
    """An option of this machine's pip, from the environment or its configuration files; empty without one."""
    if given := os.environ.get(pip_variable(option)):
        return given
    command = [sys.executable, "-m", "pip", "config", "get", f"global.{option}"]
    asked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return asked.stdout.strip()


def smoke(folder: Path) -> None:
    """All steps in order; each prints its duration. FailedStepError at the first failure."""
    with Guest(folder, time.monotonic() + DEADLINE_S) as guest:
        with step("boot to a login, processor emulated"):
            guest.wait_for_login()
        with step("copy the project into the guest"):
            guest.copy_project()
        with step("set the guest up with vm/guest.sh, as `vagrant up` does"):
            guest.run(f"cd {GUEST_PROJECT} && sudo {environment_of_guest(guest)} vm/guest.sh", shown=True)
        with step("a second set-up changes nothing"):
            said = guest.run("sudo NETKV_VENV=$NETKV_VENV ./provision.sh")
            expect(said.strip() == "netkv is set up: /opt/netkv/bin/netkv", said)
        with step("`netkv doctor` finds nothing missing and reports the kernel's datapath"):
            said = guest.run("netkv doctor")
            expect("kernel: the openvswitch kernel module is loaded" in said, said)
            expect("missing" not in said, said)
        with step("the tests inside the guest"):
            guest.run(
                "sudo /opt/netkv/bin/pytest tests/optional/test_guest.py -m live -p no:cacheprovider -v --durations=3",
                shown=True,
            )
        with step("`netkv run`, typed after login, completes every request on the kernel datapath"):
            command = f"netkv run --policy netkv_full --requests {REQUESTS} {' '.join(SETTINGS)} --out {RESULTS}"
            guest.run(
                f"{command} || test $? = 1", shown=True
            )  # 1: complete, but the verdict is invalid on so slow a machine
            summary = json.loads(guest.run(f"cat ~/{GUEST_PROJECT}/{RESULTS}/summary.json"))
            ended = {status: summary[status] for status in ("completed", "failed", "rejected")}
            expect(ended == {"completed": REQUESTS, "failed": 0, "rejected": 0}, str(ended))
            manifest = json.loads(guest.run(f"cat ~/{GUEST_PROJECT}/{RESULTS}/manifest.json"))
            expect(manifest["evidence"]["datapath"] == "kernel", str(manifest["evidence"]))
        with step("a reboot keeps the kernel datapath"):
            guest.reboot()
            guest.run("lsmod | grep -q ^openvswitch && netkv doctor --json | grep -q 'kernel: the openvswitch'")


def expect(true: object, said: str) -> None:
    if not true:
        raise FailedStepError(f"not as expected:\n{said}")


@contextmanager
def step(name: str) -> Iterator[None]:
    print(f"--- {name}", flush=True)
    started_s = time.monotonic()
    try:
        yield
    except FailedStepError as problem:
        raise FailedStepError(f"{name}: {problem}") from None
    print(f"ok  {name}  ({time.monotonic() - started_s:.0f} s)", flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-LAST_LINES:]) if path.exists() else "(empty)"


def main() -> int:
    def interrupted(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, interrupted)
    started_s = time.monotonic()
    try:
        smoke(Path(sys.argv[1]))
    except FailedStepError as problem:
        print(f"FAILED after {time.monotonic() - started_s:.0f} s: {problem}", file=sys.stderr)
        return 1
    print(f"all steps in the virtual machine passed: {time.monotonic() - started_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
