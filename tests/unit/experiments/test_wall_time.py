"""Where a sweep's wall time went: added up, kept in its folder, continued, and said in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.running.wall_time import TIMING, WallTime, read_wall_time, write_wall_time

FIRST = {"bring_up": 10.0, "run": 22.0, "replaying": 20.0, "rendering": 0.5}
SECOND = {"bring_up": 0.0, "run": 22.0, "replaying": 20.0, "rendering": 0.5}


def test_the_share_is_what_was_replayed_of_all_that_was_spent() -> None:
    spent = WallTime()
    assert spent.replaying_share == 0
    spent.add(FIRST, writing_s=0.5)
    spent.add(SECOND, writing_s=0.5)
    assert (spent.runs, spent.bring_up_s, spent.around_s, spent.writing_s) == (2, 10.0, 4.0, 2.0)
    assert spent.replaying_share == pytest.approx(40 / 56)
    assert str(spent).startswith("71% of the time spent replaying (40 s of 2 runs; 10 s bringing fabrics up, 4 s")


def test_a_continued_sweep_adds_to_what_it_had_spent(tmp_path: Path) -> None:
    spent = read_wall_time(tmp_path)
    spent.add(FIRST)
    write_wall_time(spent, tmp_path)
    again = read_wall_time(tmp_path)
    assert again == spent
    again.add(SECOND)
    write_wall_time(again, tmp_path)
    told = json.loads((tmp_path / TIMING).read_text())
    assert (told["runs"], told["replaying_s"], told["replaying_share"]) == (2, 40.0, pytest.approx(40 / 55, abs=1e-4))
    assert [place.name for place in tmp_path.iterdir()] == [TIMING]


@pytest.mark.parametrize("content", ["{", "[]", '{"runs": 1}'])
def test_a_damaged_record_is_begun_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / TIMING).write_text(content)
    assert read_wall_time(tmp_path) == WallTime()
