"""The rules of the house, held against every module: what a package may import, and how large a file may grow."""

from __future__ import annotations

import ast
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processor_groups import group_of

pytestmark = pytest.mark.xdist_group("architecture")
"""On one processor: every module is parsed once."""

PACKAGES = (
    *("topologies", "workloads", "scenario", "scheduler", "routers", "serving"),
    *("controller", "workers", "simulator", "testbed", "experiments"),
)
"""A package imports only packages before it."""

PARTS_OF_EXPERIMENTS = (
    *("analysis", "published", "drawing", "running", "watching", "checking", "comparing", "exporting"),
    *("explaining", "planning", "questions", "reference", "reproducing", "claims", "report", "verbs"),
)
"""The same inside `experiments`."""
NAMED_BY_THE_USER = ("topologies", "controller", "workers", "scheduler", "experiments", "tests", "Vagrantfile")
LONGEST_FILE = 400

MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
"""Every module of every package."""

BY_THEIR_OWN_NAME = ("topologies.mininet", "experiments.verbs")
"""What is imported from other packages by its own name: the one needs Mininet, the other is loaded verb by verb."""

ONE_MORE = {"topologies/mininet.py": ("mininet",), "workers/mooncake_engine.py": ("mooncake",)}
"""Modules of packages that a bare interpreter runs, each with what it alone needs beside them."""

MININET_USERS = ("topologies/mininet.py", "testbed/")
RYU_USERS = ("controller/",)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def imports(path: Path) -> Iterator[str]:
    """Every dotted name that a module imports, wherever in it, the imported names of `from` included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides which package it is from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def modules_of(*packages: str) -> list[Path]:
    return [path for path in MODULES if package_of(path) in packages]


def test_the_folders_that_were_asked_for_by_name_exist() -> None:
    missing = [name for name in (*NAMED_BY_THE_USER, *PACKAGES) if not (ROOT / name).exists()]
    assert missing == []


def test_every_package_has_modules() -> None:
    assert {package_of(path) for path in MODULES} == set(PACKAGES)


def offences(paths: Iterable[Path], found_in: Callable[[Path], Iterable[str]]) -> dict[str, list[str]]:
    """What a rule finds in each module, those without an offence left out."""
    return {name_of(path): sorted(found) for path in paths if (found := set(found_in(path)))}


def test_a_package_imports_only_packages_before_it() -> None:
    def from_below(path: Path) -> set[str]:
        return imported_roots(path) & {*PACKAGES[PACKAGES.index(package_of(path)) + 1 :], "tests"}

    assert offences(MODULES, from_below) == {}


def part_of(dotted: str) -> str:
    """The smallest of our packages that a module belongs to: `testbed`, `experiments.running`."""
    parts = dotted.split(".")
    inside = parts[0] == "experiments" and len(parts) > 1 and parts[1] in PARTS_OF_EXPERIMENTS
    return ".".join(parts[:2]) if inside else parts[0]


def own_imports(path: Path) -> Iterator[str]:
    """The modules of ours that a module imports from."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in PACKAGES:
            yield node.module


def test_another_package_is_imported_through_its_public_names() -> None:
    def inner(path: Path) -> set[str]:
        mine = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        names = {name for name in own_imports(path) if part_of(name) != mine and name != part_of(name)}
        return {name for name in names if not name.startswith(BY_THEIR_OWN_NAME)}

    assert offences(MODULES, inner) == {}


def test_a_part_of_experiments_imports_only_parts_before_it() -> None:
    def from_after(path: Path) -> set[str]:
        mine = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts)).rpartition(".")[2]
        if mine == "experiments":
            return set()
        after = PARTS_OF_EXPERIMENTS[PARTS_OF_EXPERIMENTS.index(mine) + 1 :]
        return {part_of(name).rpartition(".")[2] for name in own_imports(path)} & {*after, "experiments"}

    assert offences(modules_of("experiments"), from_after) == {}


@pytest.mark.parametrize("package", [*PACKAGES, *(f"experiments.{part}" for part in PARTS_OF_EXPERIMENTS[:-1])])
def test_every_public_name_is_there_and_an_example_shows_one(package: str) -> None:
    face = importlib.import_module(package)
    assert [name for name in face.__all__ if not hasattr(face, name)] == []
    assert f"from {package} import" in (face.__doc__ or "") or package == "scheduler"


def test_the_checker_shares_no_code_with_what_it_checks() -> None:
    """Of ours it knows the error for a folder that is no run, and nothing else."""
    own = [
        name
        for path in modules_of("experiments")
        if "checking" in path.parts
        for name in imports(path)
        if name.partition(".")[0] in PACKAGES and not name.startswith("experiments.checking.")
    ]
    assert set(own) == {"experiments.running.StoreError"}


def test_mininet_is_known_only_where_the_fabric_is_made_real() -> None:
    users = {name_of(path) for path in MODULES if "mininet" in imported_roots(path)}
    assert sorted(user for user in users if not user.startswith(MININET_USERS)) == []
    assert "topologies/mininet.py" in users


def test_ryu_and_os_ken_are_known_only_to_the_controller() -> None:
    users = {name_of(path) for path in MODULES if imported_roots(path) & {"ryu", "os_ken"}}
    assert sorted(user for user in users if not user.startswith(RYU_USERS)) == []


def test_the_simulator_starts_no_process() -> None:
    starting = {"mininet", "subprocess", "multiprocessing", "socket", "asyncio"}
    assert offences(modules_of("simulator"), lambda path: imported_roots(path) & starting) == {}


def test_what_a_bare_interpreter_runs_needs_the_standard_library_only() -> None:
    """Without our environment `mn --custom` loads the topology, and hosts start their workers sooner."""

    def further(path: Path) -> set[str]:
        own = {package_of(path), "topologies", *ONE_MORE.get(name_of(path), ())}
        return imported_roots(path) - own - set(sys.stdlib_module_names)

    assert offences(modules_of("topologies", "workers"), further) == {}


def test_the_scheduler_has_no_clock_but_the_injected_stopwatch() -> None:
    def clocks(path: Path) -> set[str]:
        read = {
            node.attr
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
        }
        imported = {name for name in imports(path) if name.startswith("time.")}
        timers = imported_roots(path) & {"datetime", "sched", "threading", "asyncio"}
        return (read - {"perf_counter_ns"}) | imported | timers

    assert offences(modules_of("scheduler"), clocks) == {}


@cache
def private_names(package: str) -> set[str]:
    """Names with one leading underscore that a package defines: functions, classes, variables, attributes of `self`."""
    found: set[str] = set()
    for path in modules_of(package):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def test_there_are_private_names_to_keep_out_of() -> None:
    assert all(private_names(package) for package in PACKAGES)


def test_no_module_reaches_into_another_packages_private_names() -> None:
    def reached(path: Path) -> set[str]:
        package = package_of(path)
        others = (private_names(other) for other in PACKAGES if other != package)
        foreign = set().union(*others) - private_names(package)
        used = {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)} & foreign
        imported = {
            name
            for name in imports(path)
            if name.partition(".")[0] in PACKAGES and any(part.startswith("_") for part in name.split("."))
            if name.partition(".")[0] != package
        }
        return used | imported

    assert offences(MODULES, reached) == {}


def test_a_module_opens_by_saying_what_it_owns_and_stays_readable() -> None:
    assert [name_of(path) for path in MODULES if not ast.get_docstring(tree_of(path))] == []
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > LONGEST_FILE} == {}


TESTS = sorted((ROOT / "tests").rglob("*.py"))


def test_tests_share_by_their_support_alone() -> None:
    """No test imports another test, also not in a program that it runs."""

    def others(path: Path) -> set[str]:
        used = {name for name in imports(path) if name.startswith("tests.")}
        text = path.read_text(encoding="utf-8")
        programs = {folder for folder in ("unit", "cli", "live", "optional") if f"from tests.{folder}" in text}
        return {name for name in used if not name.startswith("tests.support")} | programs

    assert offences((path for path in TESTS if path != Path(__file__).resolve()), others) == {}


@pytest.mark.parametrize("folder", ["unit", "cli"])
def test_what_needs_root_is_in_a_folder_of_its_own(folder: str) -> None:
    """`make test-fast` runs both of these folders whole."""
    files = [
        path for path in TESTS if path.is_relative_to(ROOT / "tests" / folder) and path != Path(__file__).resolve()
    ]
    assert [name_of(path) for path in files if "mark.live" in path.read_text(encoding="utf-8")] == []


def test_a_group_of_tests_is_named_where_it_is_looked_for() -> None:
    named = [path for path in TESTS if "mark.xdist_group(" in path.read_text(encoding="utf-8")]
    assert [name_of(path) for path in named if path != Path(__file__).resolve() and not group_of(name_of(path))] == []
    assert {group_of(name_of(path)) for path in named} >= {"workers", "ports"}


def test_no_two_modules_or_classes_share_a_name() -> None:
    """A reader must not take one for the other. A verb's file is named after the verb, and errors are in `errors`."""
    modules = [path.stem for path in MODULES if path.stem not in ("__init__", "errors") and "verbs" not in path.parts]
    classes = [
        node.name
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert sorted(name for names in (modules, classes) for name, count in Counter(names).items() if count > 1) == []
