"""A machine that runs short, of disk, memory or file descriptors: one line, exit code 3, and nothing half-written."""

from __future__ import annotations

import errno
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import cli
from experiments.running import ClusterError, StoreError
from tests.support.command_line import Said
from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("shortages")

NETKV = (str(Path(sys.executable).parent / "netkv"),)
RUN = ("run", "--world", "analytic", "--requests", "3")
SWEEP = (
    *("sweep", "staleness", "--world", "analytic", "--requests", "3", "--seed", "1"),
    *("--policies", "round_robin,netkv_full", "--refresh", "1"),
)
DEADLINE_S = 120
MIB = 1 << 20


def netkv(*arguments: str, before: Callable[[], None] | None = None) -> Said:
    done = subprocess.run(
        [*NETKV, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        preexec_fn=before,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def on_a_disk(options: str, *steps: str) -> Said:
    """Shell steps in a mount namespace of their own, with a small tmpfs for a disk: $DISK, and $NETKV.

    It is gone with the last step, so that these print whatever is to be seen. Who is not root is so in a namespace of
    users (user_namespaces(7)).
    """
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = "; ".join([f"mount -t tmpfs -o {options} netkv-test $DISK", *steps])
    done = subprocess.run(
        ["unshare", *as_root, "--mount", "--propagation", "private", "sh", "-c", script],
        cwd=ROOT,
        env={**os.environ, "DISK": "/mnt", "NETKV": shlex.join(NETKV)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def told(said: Said, code: int = 3) -> str:
    """The one line that a shortage is."""
    assert "Traceback" not in said.err, said.err
    lines = said.err.splitlines()
    assert (len(lines), said.code) == (1, code), said
    return lines[0]


# The disk


def test_a_disk_that_is_full_leaves_no_run() -> None:
    said = on_a_disk(
        "size=16k", f"$NETKV {shlex.join(RUN)} --out $DISK/deep/run", "code=$?", "find $DISK", "exit $code"
    )
    assert told(said) == ("netkv: /mnt/deep/run: No space left on device (free some space, or choose another place)")
    assert said.out == "/mnt\n/mnt/deep\n"


def test_a_disk_that_is_full_before_the_first_run_leaves_no_sweep() -> None:
    said = on_a_disk("size=4k", f"$NETKV {shlex.join(SWEEP)} --out $DISK/sweep", "code=$?", "find $DISK", "exit $code")
    assert told(said).startswith("netkv: /mnt/sweep: No space left on device (free some space")
    assert said.out == "/mnt\n"


def test_a_disk_that_is_full_at_the_end_of_a_sweep_leaves_whole_runs_and_no_table_and_it_goes_on() -> None:
    command = f"$NETKV {shlex.join(SWEEP)} --quiet"
    said = on_a_disk(
        "size=240k",
        f"{command} --out $DISK/sweep",
        "echo $?",
        "ls -A $DISK/sweep",
        "mount -o remount,size=20m $DISK",
        f"{command} --out $DISK/sweep --resume > /dev/null",
        "echo $?",
        f"{command} --out $DISK/other > /dev/null",
        "cmp $DISK/sweep/staleness.csv $DISK/other/staleness.csv",
    )
    assert told(said, 0).startswith("netkv: /mnt/sweep: No space left on device (free some space")
    assert said.out.split() == ["3", "runs", "sweep.json", "timing.json", "0"]


def test_an_output_that_is_full_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*NETKV, *RUN, "--out", str(tmp_path / "run")],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
    assert told(Said(done.returncode, "", done.stderr)).startswith("netkv: No space left on device")
    assert (tmp_path / "run" / "manifest.json").is_file()


def test_a_disk_that_is_read_only_is_bad_input() -> None:
    steps = ("mount -o remount,ro $DISK", f"$NETKV {shlex.join(RUN)} --out $DISK/run")
    said = on_a_disk("size=1m", *steps)
    assert told(said, 2) == "netkv: /mnt/run: /mnt is mounted read-only (choose another place)"


# Memory and file descriptors


def with_limit(kind: int, most: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(kind, (most, most))

    return limit


@pytest.mark.parametrize(
    ("most_mib", "requests"),
    [(200, "3"), (400, "3"), (640, "200000")],
    ids=["for the libraries", "for the compiler", "in mid-run"],
)
def test_too_little_memory(tmp_path: Path, most_mib: int, requests: str) -> None:
    limit = with_limit(resource.RLIMIT_AS, most_mib * MIB)
    said = netkv(*RUN[:-1], requests, "--out", str(tmp_path / "run"), before=limit)
    assert (said.code, "Traceback" in said.err) == (3, False), said.err
    *pythons, ours = said.err.splitlines()  # of an error that finds no memory itself Python may say that it is ignored
    assert ours.startswith("netkv: out of memory (end other programs, ask for fewer requests or --jobs")
    assert len(pythons) in (0, 2), pythons
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "most"), [(RUN, 8), ((*SWEEP, "--jobs", "2"), 12)], ids=["run", "sweep"])
def test_too_few_file_descriptors(tmp_path: Path, command: tuple[str, ...], most: int) -> None:
    said = netkv(*command, "--out", str(tmp_path / "out"), before=with_limit(resource.RLIMIT_NOFILE, most))
    assert told(said).endswith("Too many open files (raise the limit of this process, `ulimit -n 4096`)")
    assert list(tmp_path.iterdir()) == []


# Exit codes


def ended(
    capsys: pytest.CaptureFixture[str], problem: BaseException, cause: Exception | None = None
) -> tuple[int, str]:
    """Exit code and what was said of an error."""

    def fails() -> None:
        raise problem from cause

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "app", fails)
        patch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit) as end:
            cli.main()
    return int(end.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE])
def test_what_the_machine_lacks_is_exit_code_3_whoever_tells_it(
    capsys: pytest.CaptureFixture[str], number: int
) -> None:
    found = OSError(number, os.strerror(number), "here")
    assert ended(capsys, found)[0] == 3
    code, said = ended(capsys, StoreError(f"out: {found.strerror}"), found)
    assert code == 3
    assert said.startswith(f"netkv: out: {found.strerror} (")
    assert ended(capsys, StoreError("out: No such file"), OSError(errno.ENOENT, "No such file")) == (
        *(2, "netkv: out: No such file\n"),
    )


def test_a_cluster_that_is_not_there_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(capsys, ClusterError("tcp://x:1: no Dask scheduler can be reached there"))[0] == 2


def test_an_error_of_ours_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError):
        ended(capsys, KeyError("a mistake in the code"), ValueError("why"))


def test_an_interrupt_that_comes_twice_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second while the first is told."""
    first = cli.Interrupted(signal.SIGINT)
    assert ended(capsys, first) == (130, "netkv: interrupted; finished runs are kept (--resume continues a sweep)\n")

    def again(*_: object, **__: object) -> None:
        raise cli.Interrupted(signal.SIGTERM)

    monkeypatch.setattr("typer.echo", again)
    assert ended(capsys, first) == (130, "")
