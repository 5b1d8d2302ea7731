"""The name that somebody may have meant."""

from __future__ import annotations

import pytest

from topologies import did_you_mean

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
