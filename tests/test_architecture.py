"""The rules of the house, held against every module: what a room may import, and how large a file may grow."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("topologies", "workloads", "scheduler", "controller", "workers", "simulator", "testbed", "experiments")
NAMED_BY_THE_USER = ("topologies", "controller", "workers", "scheduler", "experiments", "tests", "Vagrantfile")
LONGEST_FILE = 400

MODULES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
"""Every module of every room."""

MININET_USERS = ("topologies/mininet.py", "testbed/")
RYU_USERS = ("controller/",)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def imports(path: Path) -> Iterator[str]:
    """Every dotted name that a module imports, wherever in it, the imported names of `from` included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides which room it is from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def modules_of(*rooms: str) -> list[Path]:
    return [path for path in MODULES if room_of(path) in rooms]


def test_the_folders_that_were_asked_for_by_name_exist() -> None:
    missing = [name for name in (*NAMED_BY_THE_USER, *ROOMS) if not (ROOT / name).exists()]
    assert missing == []


def test_every_room_has_modules() -> None:
    assert {room_of(path) for path in MODULES} == set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_rooms_above_it(path: Path) -> None:
    below = ROOMS[ROOMS.index(room_of(path)) + 1 :]
    assert sorted(imported_roots(path) & {*below, "tests"}) == []


def test_mininet_is_known_only_where_the_fabric_is_made_real() -> None:
    users = {name_of(path) for path in MODULES if "mininet" in imported_roots(path)}
    assert sorted(user for user in users if not user.startswith(MININET_USERS)) == []
    assert "topologies/mininet.py" in users


def test_ryu_and_os_ken_are_known_only_to_the_controller() -> None:
    users = {name_of(path) for path in MODULES if imported_roots(path) & {"ryu", "os_ken"}}
    assert sorted(user for user in users if not user.startswith(RYU_USERS)) == []


@pytest.mark.parametrize("path", modules_of("simulator"), ids=name_of)
def test_the_simulator_starts_no_process(path: Path) -> None:
    assert sorted(imported_roots(path) & {"mininet", "subprocess", "multiprocessing", "socket", "asyncio"}) == []


@pytest.mark.parametrize("path", modules_of("topologies", "workers"), ids=name_of)
def test_what_a_bare_interpreter_runs_needs_the_standard_library_only(path: Path) -> None:
    """Without our environment `mn --custom` loads the topology, and hosts start their workers sooner."""
    own = {room_of(path), "topologies", *({"mininet"} if path.name == "mininet.py" else set())}
    assert sorted(imported_roots(path) - own - set(sys.stdlib_module_names)) == []


@pytest.mark.parametrize("path", modules_of("scheduler"), ids=name_of)
def test_the_scheduler_has_no_clock_but_the_injected_stopwatch(path: Path) -> None:
    assert sorted(imported_roots(path) & {"datetime", "sched", "threading", "asyncio"}) == []
    clocks = {
        node.attr
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time"
    }
    assert clocks <= {"perf_counter_ns"}
    assert not [name for name in imports(path) if name.startswith("time.")]


def private_names(room: str) -> set[str]:
    """Names with one leading underscore that a room defines: functions, classes, variables, attributes of `self`."""
    found: set[str] = set()
    for path in modules_of(room):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


PRIVATE = {room: private_names(room) for room in ROOMS}


def test_there_are_private_names_to_keep_out_of() -> None:
    assert all(PRIVATE[room] for room in ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_reaches_into_another_rooms_private_names(path: Path) -> None:
    room = room_of(path)
    foreign = set().union(*(PRIVATE[other] for other in ROOMS if other != room)) - PRIVATE[room]
    reached = {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)} & foreign
    imported = {
        name
        for name in imports(path)
        if name.partition(".")[0] in ROOMS and any(part.startswith("_") for part in name.split("."))
        if name.partition(".")[0] != room
    }
    assert sorted(reached | imported) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_opens_by_saying_what_it_owns_and_stays_readable(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
