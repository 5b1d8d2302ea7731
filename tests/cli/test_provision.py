"""provision.sh keeps its promises: exact versions, a second run that does nothing, clear words when it cannot go on.

A cold set-up takes half a minute and the network, and every `make test` has just done one; here are the quick ones.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("host")

PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[0-9][A-Za-z0-9.+!]*)")

ORDINARY_COMMANDS = (
    *("bash", "cat", "cut", "dirname", "env", "flock", "grep", "ls", "mkdir"),
    *("mktemp", "realpath", "rm", "sed", "sha256sum", "tail"),
)


def provision(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", str(ROOT / "provision.sh"), *args],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def entries(name: str) -> list[list[str]]:
    """The words of each entry of a lock file: its pin and its digests."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    lines = [words[0] for words in entries(name)]
    matches = [PIN.fullmatch(line) for line in lines]
    assert None not in matches, f"not an exact pin: {lines[matches.index(None)]}"
    return {match["name"].lower().replace("_", "-"): match["version"] for match in matches if match}


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder to be all of PATH: the ordinary commands that provision.sh needs, without sudo and apt-get."""
    folder = tmp_path / "commands"
    folder.mkdir()
    for name in ORDINARY_COMMANDS:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return folder


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_scripts_are_bash() -> None:
    subprocess.run(["bash", "-n", ROOT / "provision.sh"], check=True)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def test_every_version_is_exact_and_the_two_files_agree() -> None:
    lock, build = pins("requirements.lock"), pins("constraints-build.txt")
    assert lock["ryu"] == "4.34"
    assert int(build["setuptools"].split(".")[0]) < 68
    assert {name: lock[name] for name in lock.keys() & build.keys()} == {
        name: build[name] for name in lock.keys() & build.keys()
    }


@pytest.mark.parametrize("name", ["requirements.lock", "constraints-build.txt", "routers.lock", "engines.lock"])
def test_every_file_that_is_installed_has_its_digest_in_the_lock(name: str) -> None:
    for pin, *digests in entries(name):
        assert digests, pin
        assert [one for one in digests if not re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one)] == []
    installs = [line for line in (ROOT / "provision.sh").read_text().splitlines() if f"-r {name}" in line]
    assert installs
    assert [line for line in installs if "--require-hashes" not in line] == []


def test_the_lock_covers_every_dependency_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {re.split(r"[=<>!~\[; ]", want)[0].lower() for want in wanted} <= pins("requirements.lock").keys()


def test_what_an_extra_brings_stands_beside_the_lock_and_changes_nothing_in_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked, found = pins("requirements.lock"), {name: pins(f"{name}.lock") for name in ("routers", "engines")}
    for name, extra in found.items():
        wanted = dict(want.split("==") for want in project["optional-dependencies"][name])
        assert {one: extra[one] for one in wanted} == wanted
        assert not extra.keys() & locked.keys()
    both = found["routers"].keys() & found["engines"].keys()
    assert {one: found["routers"][one] for one in both} == {one: found["engines"][one] for one in both}


def test_a_second_run_downloads_and_changes_nothing() -> None:
    check = provision("--check", NETKV_VENV=sys.prefix)
    assert check.returncode == 0, check.stdout  # `make` has just seen to that
    stamps = [Path(sys.prefix) / name for name in (".netkv-packages", ".netkv-project", "provision.log", "bin/netkv")]
    before = [path.stat().st_mtime_ns for path in stamps]
    again = provision(NETKV_VENV=sys.prefix, PIP_INDEX_URL="http://127.0.0.1:9/", http_proxy="http://127.0.0.1:9/")
    assert again.returncode == 0
    assert again.stdout.splitlines() == [f"netkv is set up: {sys.prefix}/bin/netkv"]
    assert again.stderr == ""
    assert [path.stat().st_mtime_ns for path in stamps] == before


def test_a_half_made_environment_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "pyvenv.cfg").touch()
    check = provision("--check", NETKV_VENV=str(tmp_path))
    assert check.returncode == 1
    assert len(check.stdout.splitlines()) == 1


def test_a_folder_of_something_else_is_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    refused = provision(NETKV_VENV=str(tmp_path))
    assert refused.returncode == 1
    assert (tmp_path / "thesis.tex").read_text() == "irreplaceable"


def test_without_root_and_sudo_it_says_so_in_one_line(commands: Path, tmp_path: Path) -> None:
    command(commands, "id", "echo 1000")
    command(commands, "dpkg-query", "exit 1")
    command(commands, "apt-get", "exit 1")
    refused = provision(PATH=str(commands), NETKV_VENV=str(tmp_path / "venv"))
    assert refused.returncode == 1
    assert refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert line.startswith("provision.sh: needs root or sudo to install Debian packages: mininet openvswitch-switch ")
    assert not (tmp_path / "venv").exists()


def test_apt_is_asked_only_for_what_is_missing_and_its_failure_is_shown(commands: Path, tmp_path: Path) -> None:
    command(commands, "id", "echo 0")
    command(
        commands, "dpkg-query", 'for package; do [ "$package" = tcpdump ] || echo "installed $package"; done; exit 1'
    )
    command(
        commands,
        "apt-get",
        f'echo "$*" >>"{tmp_path}/asked"; echo "E: no space left"; case "$*" in *install*) exit 100; esac',
    )
    failed = provision(PATH=str(commands), NETKV_VENV=str(tmp_path / "venv"), TMPDIR=str(tmp_path))
    assert failed.returncode == 1
    assert failed.stdout.splitlines() == ["[1/3] Debian packages: installing tcpdump"]
    assert "E: no space left" in failed.stderr
    update, install = (tmp_path / "asked").read_text().splitlines()
    assert update.endswith("update")
    assert "--no-install-recommends" in install
    assert install.endswith(" tcpdump")
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("arguments", "wanted", "unwanted"),
    [
        ((), {"mininet", "git"}, {"chromium", "vagrant", "mmdebstrap", "libibverbs1"}),
        (("--tests",), {"mininet", "chromium", "chromium-driver", "vagrant"}, {"mmdebstrap"}),
        (("--vm",), {"mininet", "mmdebstrap", "qemu-system-x86", "vagrant-libvirt"}, {"chromium"}),
        (("--routers",), {"mininet", "libibverbs1", "libnuma1"}, {"chromium", "mmdebstrap"}),
        (("--tests", "--vm"), {"mininet", "chromium", "mmdebstrap"}, set()),
    ],
)
def test_what_only_the_tests_or_the_virtual_machine_need_is_installed_when_asked_for(
    commands: Path, tmp_path: Path, arguments: tuple[str, ...], wanted: set[str], unwanted: set[str]
) -> None:
    command(commands, "dpkg-query", "exit 1")
    check = provision("--check", *arguments, PATH=str(commands), NETKV_VENV=str(tmp_path / "venv"))
    assert check.returncode == 1
    (line,) = check.stdout.splitlines()
    missing = set(line.partition("(Debian packages missing: ")[2].rstrip(") ").split())
    assert wanted <= missing
    assert not unwanted & missing


def test_an_environment_is_whole_or_not_whichever_packages_are_asked_for(commands: Path, tmp_path: Path) -> None:
    command(commands, "dpkg-query", 'for package; do [ "$package" = chromium ] || echo "installed $package"; done')
    environment = {"PATH": str(commands), "NETKV_VENV": str(tmp_path / "venv")}
    assert "packages missing" not in provision("--check", **environment).stdout
    assert "(Debian packages missing: chromium)" in provision("--check", "--tests", **environment).stdout


def test_an_unknown_argument_is_one_line() -> None:
    refused = provision("--test")
    assert (refused.returncode, refused.stdout) == (1, "")
    (line,) = refused.stderr.splitlines()
    assert "takes no argument but --check, --tests, --vm and --routers" in line


@pytest.mark.parametrize("installed", [False, True])
def test_what_extras_need_is_tested_with_the_rest_once_it_is_there_and_never_installed_unasked(
    tmp_path: Path, installed: bool
) -> None:
    if installed:
        (tmp_path / ".netkv-routers").touch()
    told = ["make", "-n", "staleness", "test", f"VENV={tmp_path}"]
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    tests = [line for line in done.stdout.splitlines() if "/bin/pytest" in line and "--emulation" not in line]
    timed = [line for line in tests if "'live and untimed'" not in line]
    assert len(tests) == len(timed) + 1
    assert ["tests/optional/routers" in line for line in timed] == ([True] * 3 if installed else [False] * 2)
    assert "--routers" not in done.stdout
    assert "make routers test\n" in (ROOT / ".github/workflows/ci.yml").read_text()
