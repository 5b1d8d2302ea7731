"""An engine's package is an extra: what is said where it is missing, or half there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from experiments.planning import machine_check
from scenario import Scenario, ServingSpec
from testbed import EmulatedWorld, EmulationSpec, TestbedError
from testbed.transfer_engine import check_engine
from testbed.worker_pool import engine_arguments
from workers.mooncake_engine import EngineError, MooncakeEngine, Write, load_package
from workers.streams import StreamOptions

MOONCAKE = ServingSpec(engine="mooncake")


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.transfer_engine.importlib.util.find_spec", lambda _: None)


@pytest.fixture
def half_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package whose library does not find another one."""
    (tmp_path / "mooncake").mkdir()
    (tmp_path / "mooncake" / "__init__.py").touch()
    fault = "libibverbs.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "mooncake" / "engine.py").write_text(f"raise ImportError({fault!r})\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "mooncake"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_missing_package_is_one_line_with_its_remedy(missing: None) -> None:
    with pytest.raises(TestbedError) as told:
        check_engine(MOONCAKE)
    assert str(told.value) == (
        "serving.engine: mooncake: its package is not installed: "
        "pip install 'netkv-testbed[engines]', or `make routers`"
    )
    check_engine(ServingSpec())


def test_a_world_says_so_before_anything_else(missing: None) -> None:
    world = EmulatedWorld(Scenario(serving=MOONCAKE), EmulationSpec(datapath="user"))
    with pytest.raises(TestbedError, match="its package is not installed"):
        world.__enter__()


def test_the_doctor_misses_no_engine_that_nobody_asked_for(missing: None) -> None:
    found = machine_check._transfer_engine()
    assert (found.ok, found.absent) == (True, True)
    assert "pip install 'netkv-testbed[engines]'" in found.found


def test_half_a_package_is_named_by_doctor_and_workers(half_there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine_check._transfer_engine()
    assert not found.ok
    assert found.found.startswith("libibverbs.so.1: cannot open")
    assert found.remedy == "apt-get install libibverbs1 libnuma1 libcurl4 libssl3"
    for name in ("MC_TCP_LANES_PER_PEER", "MC_TCP_ENABLE_CONNECTION_POOL", "GLOG_minloglevel", "GLOG_logtostderr"):
        monkeypatch.setenv(name, "")  # what loading sets is put back
    with pytest.raises(EngineError, match=r"mooncake\.engine does not load: libibverbs\.so\.1: .*: apt-get install"):
        load_package(4)


def test_workers_are_told_the_engine_and_its_connections() -> None:
    assert engine_arguments(ServingSpec(engine="mooncake", stripes=8)) == ("--engine", "mooncake", "--lanes", "8")
    assert engine_arguments(ServingSpec())[:2] == ("--engine", "sockets")


def test_a_worker_registers_its_memory_once_and_all_writes_are_from_it() -> None:
    calls: list[tuple[object, ...]] = []

    class Package:
        def initialize(self, *given: str) -> int:
            calls.append(("initialize", *given))
            return 0

        def get_rpc_port(self) -> int:
            return 7

        def register_memory(self, base: int, size: int) -> int:
            calls.append(("register", base, size))
            return 0

        def transfer_submit_write(self, *given: object) -> int:
            calls.append(("write", *given))
            return len(calls)

    engine = MooncakeEngine(Package, "10.0.0.1", 1 << 16, StreamOptions())
    writes = [Write(engine.base + 64 * at, 1000, 64) for at in range(3)]
    handles = engine.submit("10.0.0.2:7", writes) + engine.submit("10.0.0.3:7", writes)
    assert handles == [3, 4, 5, 6, 7, 8]
    assert calls[0] == ("initialize", "10.0.0.1", "P2PHANDSHAKE", "tcp", "")
    assert calls[1] == ("register", engine.base, len(engine.memory))
    assert calls[2:] == [("write", peer, *write) for peer in ("10.0.0.2:7", "10.0.0.3:7") for write in writes]
