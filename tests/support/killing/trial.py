"""One moment made real: start `netkv`, kill, look at what is left, continue, and hold the tables against others."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.checking import check_folder
from experiments.running import MEASURED, is_run
from testbed import reclaim
from tests.support.command_line import CommandLine, cli_server
from tests.support.killing.plan import GUARDIAN, JOBS, RUN, Moment, allowed_codes, victim
from tests.support.live.small_fabric import ON_A_SMALL_FABRIC
from tests.support.live.worlds import (
    host_state,
    inhabited,
    namespaces_of,
    original_send_buffer,
    processes_with,
    send_buffer_is_given_back,
)
from tests.support.paths import ROOT

MARK = "NETKV_TEST_KILL"
NETKV = Path(sys.executable).parent / "netkv"
ENDS_S = 120.0
"""Guards against hanging, no more."""

GONE_S = 30.0
SIZES = {
    "analytic": ("--requests", "10"),
    # A few seconds of packets, because a moment is some of these and what continues it.
    "emulated": (
        *("--requests", "4", "--congestion", "onoff", *ON_A_SMALL_FABRIC),
        *("--set", "workload.max_output_tokens=4", "--set", "workload.max_input_tokens=4000"),
    ),
}
LAST_WORDS = re.compile(
    r"Traceback \(most recent call last\):\n(?:  .*\n)+KeyboardInterrupt\n"
    r"|Traceback \(most recent call last\):\n  File .*resource_tracker\.py.*\n(?:  .*\n)*KeyError: .*\n"
    r"|.*resource_tracker.*\n(?:  warnings\.warn\(.*\n)?"
)


@dataclass(frozen=True)
class Ended:
    """Who was hit and how the command ended; `late`: by itself, before."""

    role: str
    code: int
    late: bool
    faults: tuple[str, ...]


class KillingGround:
    """A folder for commands that are killed, what they make when they are not, and the host as it was before.

    `reference` and `usual_s` are of the undisturbed commands.
    """

    def __init__(self, folder: Path, again: CommandLine, world: str) -> None:
        self._folder, self._again, self._world = folder, again, world
        if world == "emulated":
            reclaim()  # what a run that was killed before left to the next one
        self._host, self._send_buffer_B = self._state(), original_send_buffer()
        self._reference: dict[str, dict[str, bytes]] = {}
        self._usual_s: dict[str, float] = {}

    def kill(self, moment: Moment) -> Ended:
        """Make a moment real and say what is wrong after it, in words; no faults are what must be."""
        if moment.command not in self._usual_s:
            self._undisturbed(moment.command)
        out = self._folder / f"{moment.number}" / "out"
        temporary = self._folder / f"{moment.number}" / "tmp"
        temporary.mkdir(parents=True)
        mark = uuid.uuid4().hex
        started_s = time.monotonic()
        process = self._start(moment.command, out, temporary, mark)
        role, late, namespaces = "", False, set[str]()
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment.at * self._usual_s[moment.command] + started_s - time.monotonic())
            late = process.poll() is not None
            if not late:
                namespaces = namespaces_of(f"{MARK}={mark}")
                pid, role = victim(moment, process.pid, self._below(process.pid, mark))
                self._send(moment, pid)
            code, said = self._end_of(process)
            faults = [] if late else list(self._faults(moment, role, code, said))
            wait_for(lambda: not processes_with(f"{MARK}={mark}"))
            wait_for(lambda: not inhabited(namespaces))  # who ends gives back gigabytes of memory for ports first
            left = {pid: command_of(pid) for pid in processes_with(f"{MARK}={mark}")}
            faults += [f"process left: {command}" for command in left.values()]
            faults += [f"namespace left: {name}" for name in inhabited(namespaces)]
            if role != GUARDIAN:  # the next run restores what it was to restore
                faults += self._send_buffer()
        finally:
            for pid in processes_with(f"{MARK}={mark}"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        faults += self._left(temporary) + self._half_written(moment.command, out)
        faults += self._continued(moment.command, out) + self._send_buffer()
        if not faults:
            shutil.rmtree(out.parent)
        return Ended(role, code, late, tuple(faults))

    def _undisturbed(self, command: str) -> None:
        """Make a command's files and see how long it takes; the first one once more, to compile what is compiled."""
        for number in range(1 if self._usual_s else 2):
            out = self._folder / f"undisturbed {command} {number}" / "out"
            temporary = out.parent / "tmp"
            temporary.mkdir(parents=True)
            started_s = time.monotonic()
            code, said = self._end_of(self._start(command, out, temporary, uuid.uuid4().hex))
            self._usual_s[command] = time.monotonic() - started_s
            if code not in (0, 1):
                raise RuntimeError(f"`netkv {command}` ends with {code} undisturbed: {said}")
            self._reference[command] = tables(out)

    def _arguments(self, command: str, out: Path) -> list[str]:
        what = ["run"] if command == RUN else ["sweep", "staleness", "--policies", "round_robin,netkv_full"]
        jobs = ["--jobs", "2"] if command == JOBS else []
        size = [*SIZES[self._world], "--seed", "1", "--refresh", "1"]
        return [*what, "--world", self._world, *size, *jobs, "--out", str(out), "--quiet"]

    def _start(self, command: str, out: Path, temporary: Path, mark: str, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(NETKV), *self._arguments(command, out), *more],
            cwd=ROOT,
            env={**os.environ, MARK: mark, "TMPDIR": str(temporary)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=default_signals,
        )

    def _below(self, command_line: int, mark: str) -> dict[int, str]:
        found = {pid: command_of(pid) for pid in processes_with(f"{MARK}={mark}") if pid != command_line}
        return {pid: command for pid, command in found.items() if command}

    def _send(self, moment: Moment, pid: int) -> None:
        for number in moment.signals:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            if number == signal.SIGSTOP:
                time.sleep(moment.stopped_s)

    def _end_of(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Exit code and what was said; a command that does not end is killed, with a code that no command has."""
        try:
            said = process.communicate(timeout=ENDS_S)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            return 999, "did not end"
        return process.returncode, said

    def _faults(self, moment: Moment, role: str, code: int, said: str) -> Iterator[str]:
        if code not in allowed_codes(moment.signals, role, self._world):
            yield f"exit code {code}: {said[-300:]}"
        own = without_last_words(said)
        if "Traceback" in own:
            yield f"traceback: {own[-600:]}"
        if code == 3 and len(own.splitlines()) != 1:
            yield f"more than one line: {own[-600:]}"

    def _left(self, temporary: Path) -> list[str]:
        faults = [f"temporary file left: {place}" for place in sorted(temporary.rglob("*"))]
        now = self._state()
        return faults + [f"host changed: {part}" for part in now if now[part] != self._host[part]]

    def _state(self) -> dict[str, Any]:
        """Of the host. The analytic world touches none of it; meanwhile others may, an emulated run for one."""
        return host_state() if self._world == "emulated" else {}

    def _send_buffer(self) -> list[str]:
        if self._world != "emulated":
            return []
        wait_for(lambda: send_buffer_is_given_back(self._send_buffer_B))
        return [] if send_buffer_is_given_back(self._send_buffer_B) else ["the host's send buffer is not given back"]

    def _half_written(self, command: str, out: Path) -> list[str]:
        """What is there after the kill: whole runs and whole tables, or none."""
        folders = [out] if command == RUN else [place for place in (out / "runs").glob("[!.]*")]
        faults = [f"not whole: {place}" for place in folders if place.exists() and not is_run(place)]
        for place in folders:
            if is_run(place):
                faults += [f"{place}: {one}" for found in check_folder(place).values() for one in found]
        if self._world == "analytic":
            expected = self._reference[command]
            faults += [f"differs: {name}" for name, held in tables(out).items() if held != expected.get(name)]
        return faults

    def _continued(self, command: str, out: Path) -> list[str]:
        """Continue it, or make it where nothing is, as a user would."""
        if command != RUN or not out.exists():
            resumed = [] if command == RUN else ["--resume"]
            if self._world == "analytic":
                said = self._again(*self._arguments(command, out), *resumed)
                code, words = said.code, said.err
            else:
                done = self._start(command, out, out.parent, uuid.uuid4().hex, *resumed)
                code, words = self._end_of(done)
            if code not in ({0} if self._world == "analytic" else {0, 1}):
                return [f"cannot be continued: exit code {code}: {words[-600:]}"]
        hidden = [*out.parent.glob(".*"), *out.rglob(".*")]
        faults = [f"left after that: {place}" for place in hidden]
        if self._world == "analytic" and tables(out) != self._reference[command]:
            differing = {name for name, held in self._reference[command].items() if tables(out).get(name) != held}
            faults.append(f"other tables than undisturbed: {sorted(differing)}")
        return faults


@contextmanager
def killing_ground(world: str = "analytic") -> Iterator[KillingGround]:
    """A ground in a folder that is gone at the end, unless something failed there."""
    with cli_server() as server, tempfile.TemporaryDirectory(prefix="netkv-kill-") as folder:
        yield KillingGround(Path(folder), CommandLine(server, ROOT, Path(folder)), world)


def tables(out: Path) -> dict[str, bytes]:
    """Every table and what is said of it, by name: what the wall clock tells is in files of its own.

    Pictures are left out because they are drawn from the tables; a manifest names the commit, and others may commit.
    """
    kinds = (".csv", ".txt", ".parquet")
    files = [place for place in sorted(out.rglob("*")) if place.suffix in kinds or place.name == "summary.json"]
    visible = [place for place in files if not any(part.startswith(".") for part in place.relative_to(out).parts)]
    return {str(place.relative_to(out)): place.read_bytes() for place in visible if place.stem != MEASURED}


def without_last_words(said: str) -> str:
    """What was said, without what Python itself says and nobody can stop.

    That is the traceback of an interpreter that SIGINT met before it had handlers, the command line's before `main` or
    a starting worker's; and the words of its resource tracker, which is replaced when it was killed.
    """
    return LAST_WORDS.sub("", said)


def default_signals() -> None:
    """In a child: none is ignored because a shell in the background or nohup(1) does so."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def command_of(pid: int) -> str:
    """Empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def wait_for(true: Callable[[], Any]) -> None:
    until_s = time.monotonic() + GONE_S
    while not true() and time.monotonic() < until_s:
        time.sleep(0.02)
