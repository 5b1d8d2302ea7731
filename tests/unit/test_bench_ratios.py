"""The ratios of the benchmarks: what is kept, and what is called slower."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.bench_ratios import Ratio, Ratios, is_slower


def test_the_reference_is_timed_turn_by_turn(tmp_path: Path) -> None:
    ratios = Ratios(tmp_path / "ratios.json")
    found = ratios.note("a decision", "a bare event", [1.0, 2.0, 30.0], [2.0, 2.0, 10.0])
    assert found == Ratio(1.0, 0.5, 3.0)


@pytest.mark.parametrize(
    ("now", "slower"),
    [
        (Ratio(10.0, 9.0, 11.0), False),
        (Ratio(7.9, 7.5, 8.5), True),
        (Ratio(7.9, 7.5, 10.1), False),  # a turn was as fast as ever: the machine was busy in the others
        (Ratio(20.0, 19.0, 21.0), False),
    ],
)
def test_slower_is_by_a_fifth_and_in_every_turn(now: Ratio, slower: bool) -> None:
    assert is_slower(now, Ratio(10.0, 9.5, 10.5)) is slower


def test_what_got_slower_is_named_and_the_kept_ratio_stays_until_it_is_told_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "ratios.json"
    first = Ratios(file)
    first.note("solver", "SimGrid", [10.0], [1.0])
    first.keep(all_of_them=False)
    second = Ratios(file)
    second.note("solver", "SimGrid", [5.0], [1.0])
    second.note("replay", "a bare event", [1.0], [20.0])
    assert second.slower == ["solver : SimGrid"]
    assert any(line.startswith("SLOWER: solver : SimGrid: 0.50 times") for line in second.lines())
    second.keep(all_of_them=False)
    assert {name: ratio.median for name, ratio in Ratios(file).kept.items()} == {
        "replay : a bare event": 0.05,
        "solver : SimGrid": 10.0,
    }
    second.keep(all_of_them=True)
    assert Ratios(file).kept["solver : SimGrid"].median == 5.0
