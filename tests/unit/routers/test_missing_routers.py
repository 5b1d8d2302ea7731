"""Without the extra, a policy that needs it is bad input with the remedy in one line; half of it is, too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.running import SpecError, make_spec
from scheduler import ROUTERS, reads_telemetry


def loaded() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "dynamo"]


@pytest.fixture(params=["missing", "broken"])
def without_dynamo(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in loaded():
        monkeypatch.delitem(sys.modules, name)
    if request.param == "missing":
        monkeypatch.setitem(sys.modules, "dynamo", None)
        yield "Dynamo's router is not installed"
        return
    (tmp_path / "dynamo").mkdir()
    (tmp_path / "dynamo" / "__init__.py").touch()
    (tmp_path / "dynamo" / "_core.py").write_text("raise ImportError('libcuda.so.1: cannot open')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "Dynamo's router is only half installed (libcuda.so.1: cannot open)"
    for name in loaded():  # the half of it
        del sys.modules[name]


@pytest.mark.parametrize("policy", ROUTERS)
def test_a_router_that_is_not_installed_is_bad_input_with_its_remedy(policy: str, without_dynamo: str) -> None:
    with pytest.raises(SpecError) as refused:
        make_spec({}, {"policy": policy})
    assert str(refused.value).startswith(f"policy: {without_dynamo}: `make routers` installs it")


def test_of_others_routers_only_the_one_that_is_told_netkvs_costs_reads_telemetry() -> None:
    assert [name for name in ROUTERS if reads_telemetry(name)] == ["dynamo_router_netkv"]
