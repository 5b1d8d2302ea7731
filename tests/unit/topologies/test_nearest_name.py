"""The name that somebody may have meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from topologies import did_you_mean, did_you_mean_file

KNOWN = ("pods", "racks_per_pod", "servers_per_rack")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("podz", " (did you mean pods?)"),
        ("rack_per_pods", " (did you mean racks_per_pod?)"),
        ("colour", ""),
        ("", ""),
    ],
)
def test_only_a_name_that_is_like_one_is_answered(name: str, said: str) -> None:
    assert did_you_mean(name, KNOWN) == said
    assert did_you_mean(name, ()) == ""


def test_a_file_of_the_same_folder(tmp_path: Path) -> None:
    meant = tmp_path / "paper.yaml"
    meant.touch()
    assert did_you_mean_file(tmp_path / "papr.yaml") == f" (did you mean {meant}?)"
    for other in (meant, tmp_path / "trace.jsonl", tmp_path / "nowhere" / "paper.yaml", meant / "paper.yaml"):
        assert did_you_mean_file(other) == ""
    assert did_you_mean_file(Path("a\0b")) == ""
