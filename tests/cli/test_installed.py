"""The project installed as others install it, into an empty environment, and used in a folder of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest

from tests.support.foreign_folders import PACKAGES, POLICY, fill
from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("installed")
"""On one processor: it is installed and compiled once each way."""

NOT_INSTALLED = shutil.ignore_patterns(
    *(".*", "*.pyc", "*.egg-info", "build", "dist", "results", "docs", "tests", "vm")
)
"""What is compiled already is copied: no file of a wheel, and an editable copy need not compile it once more."""

DEADLINE_S = 240
"""Compiling the inner loops anew takes seconds, and the machine may be busy."""

FONTS = {"MPLCONFIGDIR": matplotlib.get_cachedir()}
"""Without their list in the foreign home, Matplotlib would search this machine for fonts again in every process."""

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, because a build leaves files beside what it builds."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "netkv", ignore=NOT_INSTALLED))


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(source.parent), str(source))
    (built,) = source.parent.glob("*.whl")
    return built


@pytest.fixture(scope="module", params=["wheel", "editable"])
def bin_folder(request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `netkv` is in an environment that holds the project; its dependencies are those of this environment.

    Editable without an option, so with setuptools' import hook, which is asked after every folder of `sys.path`.
    """
    place = tmp_path_factory.mktemp(str(request.param)) / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    shared = [folder for folder in sys.path if folder.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(shared) + "\n")
    options = ("--no-index", "--ignore-installed", "--no-compile", "--no-build-isolation")
    what = [str(request.getfixturevalue("wheel"))] if request.param == "wheel" else ["--editable", str(source)]
    pip("--python", str(place / "bin/python"), "install", *options, *what)
    return place / "bin"


@pytest.fixture(scope="module")
def netkv(bin_folder: Path) -> Callable[..., Done]:
    """The installed command, run in a folder."""

    def run(folder: Path, *arguments: str, **environment: str) -> Done:
        return subprocess.run(
            [str(bin_folder / "netkv"), *arguments],
            cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C", **FONTS, **environment},
        )  # fmt: skip

    return run


def pip(*arguments: str) -> None:
    at = next(number for number, word in enumerate(arguments) if word in ("wheel", "install")) + 1
    command = [sys.executable, "-m", "pip", *arguments[:at], "--no-deps", *arguments[at:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_everything_that_is_read_at_run_time(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    assert sorted(set(tracked.stdout.split()) - inside) == []
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside
    assert {"controller/netkv.cost.v1.schema.json", "experiments/published/cells.json"} <= inside
    assert {name.partition("/")[0] for name in inside if not name.startswith("netkv_testbed-")} == set(PACKAGES)


def test_a_run_beside_folders_with_the_names_of_ours(netkv: Callable[..., Done], tmp_path: Path) -> None:
    fill(tmp_path)
    done = netkv(tmp_path, "run", "--world", "analytic", "--requests", "20", "--policy", POLICY, "--out", "new")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "new/summary.json").read_text())
    assert summary["completed"] == 20


def test_processes_of_a_sweep_beside_folders_with_the_names_of_ours(netkv: Callable[..., Done], tmp_path: Path) -> None:
    fill(tmp_path)
    options = ("--requests", "5", "--policies", f"round_robin,{POLICY}", "--refresh", "1", "--jobs", "2")
    done = netkv(tmp_path, "sweep", "staleness", "--world", "analytic", *options, "--out", "new", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["policy"] for row in json.loads(done.stdout)["results"]} == {"round_robin", POLICY}


@pytest.mark.parametrize("name", ["scheduler", "testbed"])
def test_doctor_names_the_foreign_package_that_is_in_the_place_of_ours(
    netkv: Callable[..., Done], tmp_path: Path, name: str
) -> None:
    foreign = tmp_path / "theirs" / name
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("raise RuntimeError('theirs')\n")
    done = netkv(tmp_path, "doctor", "--json", PYTHONPATH=str(tmp_path / "theirs"))
    assert done.returncode == 1, done.stderr
    (found,) = json.loads(done.stdout)
    assert (found["name"], found["ok"]) == (f"our package: {name}", False)
    assert found["found"] == f"{foreign} is in its place"
    assert str(tmp_path / "theirs") in found["remedy"]


def test_doctor_says_where_our_packages_are(netkv: Callable[..., Done], tmp_path: Path) -> None:
    fill(tmp_path)
    done = netkv(tmp_path, "doctor", "--json")
    (found,) = [finding for finding in json.loads(done.stdout) if finding["name"] == "our packages"]
    assert found["ok"], found
