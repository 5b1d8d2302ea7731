"""What a user without root may not touch is named in one line. Root is needed to become such a user."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.command_line import RUN, SWEEP, CommandLine, everything_in, fill, refused

pytestmark = [pytest.mark.live, pytest.mark.untimed, pytest.mark.usefixtures("live_machine")]

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "here"
    fill(place)
    return place


@pytest.fixture
def netkv(server: subprocess.Popen[str], folder: Path, tmp_path: Path) -> CommandLine:
    return CommandLine(server, folder, tmp_path)


@pytest.fixture
def nobodys(folder: Path) -> Path:
    """A folder that belongs to somebody without rights."""
    os.chown(folder, NOBODY, NOBODY)
    within = [place for place in folder.parents if Path(tempfile.gettempdir()) in place.parents]
    for above in (folder, *within):  # pytest's own folders are for their owner only
        above.chmod(above.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*RUN, "--out", "closed/run"), "closed/run: Permission denied"),
        ((*RUN, "--out", "guarded/run"), "guarded/run: no permission to write in"),
        ((*SWEEP[:-1], "closed/new"), "closed/new: Permission denied"),
        ((*SWEEP[:-1], "guarded/new"), "guarded/new: no permission to write in"),
        ((*RUN, "--trace", "closed/trace"), "workload.trace: closed/trace: Permission denied"),
        (("run", "--out", "new"), "the emulated world needs root for its network namespaces: run it again with sudo"),
        (("sweep", "staleness", "--out", "new"), "the emulated world needs root"),
        (
            ("reference", "build", "--questions", "prefix", "--out", "guarded/new"),
            "guarded/new: no permission to write",
        ),
        (("reference", "leaderboard", "--out", "guarded/new"), "guarded/new: no permission to write in"),
        (("reference", "build", "--emulated-seeds", "1", "--out", "new"), "the emulated world needs root"),
        (("shell",), "the emulated world needs root"),
        (("clean",), "the emulated world needs root"),
    ],
)
def test_what_one_may_not_touch_is_named(
    netkv: CommandLine, nobodys: Path, arguments: tuple[str, ...], message: str
) -> None:
    (nobodys / "closed").mkdir(mode=0o700)
    (nobodys / "guarded").mkdir(mode=0o755)
    before = everything_in(nobodys)
    assert refused(netkv(*arguments, user=NOBODY)).startswith(message)
    assert everything_in(nobodys) == before


@pytest.mark.parametrize("arguments", [(*RUN, "secret"), (*RUN, "--trace", "secret")], ids=" ".join)
def test_a_file_one_may_not_read_is_named(netkv: CommandLine, nobodys: Path, arguments: tuple[str, ...]) -> None:
    (nobodys / "secret").touch(mode=0o600)
    said = netkv(*arguments, user=NOBODY)
    assert said.code == 2
    assert "'secret' is not readable" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("arguments", [("run", "--requests", "3", "--out", "new"), ("shell",)])
def test_root_that_may_make_no_namespaces_is_told_the_remedy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """As in a container that is not privileged."""
    done = without_namespaces(tmp_path, *arguments)
    (line,) = done.stderr.splitlines()
    assert line.startswith("netkv: the emulated world needs namespaces of its own (unshare: ")
    assert "docker run --privileged" in line
    assert (done.returncode, [*tmp_path.iterdir()]) == (2, [])


def test_what_needs_root_alone_works_without_namespaces(tmp_path: Path) -> None:
    assert without_namespaces(tmp_path, "clean").returncode == 0


def test_doctor_tells_it_too_and_blames_nothing_else(tmp_path: Path) -> None:
    done = without_namespaces(tmp_path, "doctor")
    missing = [line for line in done.stdout.splitlines() if line.startswith("missing")]
    assert [line.split()[1] for line in missing] == ["namespaces"]
    assert done.returncode == 1


def without_namespaces(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["setpriv", "--bounding-set", "-sys_admin", str(Path(sys.executable).with_name("netkv")), *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120, check=False)
