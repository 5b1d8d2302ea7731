"""Generated bad input: the first cases of `python -m tests.bench.fuzz`, and the same readers under Hypothesis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import OracleError, parse_document
from tests.support.fuzzing.streams import build_small, cost_example
from tests.support.fuzzing.target import FaultError, Target
from tests.support.fuzzing.targets import TARGETS
from workers.command import Command, CommandError

CASES = {
    **{"trace": 400, "spec": 40, "setting": 60, "wire": 300},
    **{"commands": 300, "oracle": 200, "document": 200, "folder": 6},
}

ONCE_FAULTS = [
    *(("spec", 13), ("spec", 15), ("setting", 8), ("setting", 24), ("setting", 47)),
    *(("commands", 442), ("commands", 471), ("commands", 1088), ("oracle", 887), ("document", 21)),
    *(("folder", 2), ("folder", 20), ("folder", 56), ("folder", 71)),
]
"""Cases that once ended in a traceback, or not at all, or in a message that nobody can read."""


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_generated_cases_are_taken_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    target = TARGETS[name]
    refused = sum(target.check(tmp_path, target.case(seed)) for seed in range(CASES[name]))
    assert refused < CASES[name], "no case is taken: they do not get far"


@pytest.mark.parametrize(("name", "seed"), ONCE_FAULTS)
def test_what_was_once_a_fault_is_none(tmp_path: Path, name: str, seed: int) -> None:
    TARGETS[name].check(tmp_path, TARGETS[name].case(seed))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=200)
@given(document=st.dictionaries(st.sampled_from(sorted(cost_example())), JSON), links=JSON)
def test_no_document_is_believed_that_holds_other_than_utilisations(document: dict[str, Any], links: Any) -> None:
    names = [link.name for link in build_small().links]
    for made in ({**cost_example(), **document}, {**cost_example(), "links": links}):
        try:
            sample = parse_document(made, names)
        except OracleError:
            continue
        assert ((sample.utilisation >= 0) & (sample.utilisation <= 1)).all()


@settings(deadline=None, max_examples=200)
@given(fields=st.dictionaries(st.sampled_from(["do", "seconds", "rate", "count", "peer"]), JSON))
def test_a_command_gives_a_value_in_its_range_or_a_reason(fields: dict[str, Any]) -> None:
    try:
        command = Command(json.dumps(fields).encode())
        assert 0 <= command.seconds("seconds") <= 1e8
        assert (command.rate_bps("rate") or 1) > 0
        assert command.integer("count", maximum=9) in range(10)
        assert len(command.address("peer")) == 2
    except CommandError as problem:
        reason = str(problem)
    else:
        reason = ""
    assert len(reason) < 300


# The harness itself


def read_badly(_: Path, case: bytes) -> None:
    if case == b"no place":
        raise ValueError("wrong")
    if case == b"other":
        raise KeyError("x")
    if case == b"hang":
        while True:
            pass


@pytest.mark.parametrize("case", [b"no place", b"other", b"hang"])
def test_a_fault_is_seen(tmp_path: Path, case: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.fuzzing.target.CASE_DEADLINE_S", 0.05)
    target = Target("bad", lambda rng: case, read_badly, (ValueError,), place="file.txt")
    with pytest.raises(FaultError):
        target.check(tmp_path, target.case(0))


def test_a_case_is_its_seed() -> None:
    assert all(target.case(5) == target.case(5) != target.case(6) for target in TARGETS.values())
