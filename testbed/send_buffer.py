"""The host's default send buffer size: raised while runs need it, restored after the last one.

All ports of a userspace Open vSwitch share the send buffer of one AF_PACKET socket; at the kernel's default (about 92
frames) one congested port makes unrelated ports drop. Only the host's own namespace can write this host-wide setting,
so a *guardian* process holds it: it shares a lock with the guardians of other runs, sees the end of its run (even by
SIGKILL) as the end of its input, and the last guardian restores the value that the first one found.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

SETTING = Path("/proc/sys/net/core/wmem_default")
SEND_BUFFER_B = 33_554_432
LEASE = Path("/run/netkv-send-buffer")
READY = "ready"
GUARDIAN_DEADLINE_S = 10.0


class SendBufferError(RuntimeError):
    """The setting could not be changed; the message says what was refused."""


class SendBufferLease:
    """While held, sockets made on this host get `SEND_BUFFER_B` by default. Use as a context manager; needs root."""

    def __init__(self) -> None:
        self._guardian: subprocess.Popen[str] | None = None

    def __enter__(self) -> SendBufferLease:
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._guardian.stdout is not None
        answer = self._guardian.stdout.readline().strip()
        if answer != READY:
            self._guardian.kill()
            self._guardian.wait()
            raise SendBufferError(f"cannot set {SETTING}: {answer or 'the guardian ended without a message'}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._guardian is not None
        assert self._guardian.stdin is not None
        self._guardian.stdin.close()
        try:
            restored = self._guardian.wait(GUARDIAN_DEADLINE_S) == 0
        except subprocess.TimeoutExpired:
            self._guardian.kill()
            self._guardian.wait()
            restored = False
        if not restored:  # it was killed: whoever it guarded does its work
            reclaim()


def guard() -> int:
    """Main function of the guardian: set, confirm, wait for the end of input, restore if no other run needs it."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        lease = os.open(LEASE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lease, fcntl.LOCK_SH)
        while not _is_current(lease):  # the last guardian of another run removed the file we had opened
            os.close(lease)
            lease = os.open(LEASE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lease, fcntl.LOCK_SH)
        fcntl.lockf(lease, fcntl.LOCK_EX)  # of two that start at once, only the first finds the original
        if not os.fstat(lease).st_size:
            os.pwrite(lease, SETTING.read_bytes().strip(), 0)
        SETTING.write_text(str(SEND_BUFFER_B))
        fcntl.lockf(lease, fcntl.LOCK_UN)
    except OSError as problem:
        print(problem, flush=True)
        return 1
    print(READY, flush=True)
    sys.stdin.read()
    restore(lease)
    return 0


def restore(lease: int) -> None:
    """Restore the setting and remove the lease, unless another run still holds it."""
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    if _is_current(lease):
        original = os.pread(lease, 32, 0).strip()
        if original:
            SETTING.write_bytes(original)
        LEASE.unlink()


def reclaim() -> bool:
    """Restore a setting whose guardian was itself killed. True if there was one to restore."""
    try:
        lease = os.open(LEASE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        restore(lease)
    finally:
        os.close(lease)
    return not LEASE.exists()


def _is_current(lease: int) -> bool:
    try:
        return os.path.samestat(os.fstat(lease), os.stat(LEASE))
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(guard())
