"""The best public policy as a reference: who is chosen for which seed, and what a comparison with it says."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from experiments.analysis import against_best, best_of_other_seeds, what_binds

PUBLIC = ("near", "even")


def requests(**ttft_ms: list[float]) -> pd.DataFrame:
    """Four requests a seed and policy, all with the same TTFT; a list has a figure a seed."""
    rows = [
        {
            "policy": policy, "seed": seed, "request_id": number, "status": "completed", "ttft_ms": value + number,
            "tpot_ms": 30.0, "admission_ms": 0.0, "cached_tokens": 0, "input_length": 1000, "queue_ms": 0.0,
            "prefill_ms": value + number - 30.0, "kv_transfer_ms": 0.0,
        }
        for policy, values in ttft_ms.items()
        for seed, value in enumerate(values)
        for number in range(4)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def of(policy: str, frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["policy"] == policy]


def test_each_seed_is_judged_against_the_best_of_the_others() -> None:
    """`near` is lucky on the last seed alone: that decides for the others, and not for itself."""
    frame = requests(near=[100, 100, 40], even=[90, 90, 90])
    best = best_of_other_seeds(frame, PUBLIC)
    assert best.chosen == {0: "near", 1: "near", 2: "even"}
    assert (best.name, len(best.requests)) == ("near", 3 * 4)
    by_seed = best.requests.groupby("seed")["policy"].unique()
    assert {seed: list(names) for seed, names in by_seed.items()} == {0: ["near"], 1: ["near"], 2: ["even"]}


def test_one_seed_has_no_others_and_is_judged_against_its_own_best() -> None:
    best = best_of_other_seeds(requests(near=[100], even=[90]), PUBLIC)
    assert best.chosen == {0: "even"}


def test_who_turns_requests_away_is_not_chosen() -> None:
    frame = requests(near=[50, 50], even=[90, 90])
    frame.loc[(frame["policy"] == "near") & (frame["request_id"] == 3), "status"] = "rejected"
    assert set(best_of_other_seeds(frame, PUBLIC).chosen.values()) == {"even"}


def test_without_any_of_them_there_is_nothing_to_compare_with() -> None:
    frame = requests(ours=[50, 50])
    found = against_best(frame, frame, PUBLIC)
    assert found["public"] == ""
    assert math.isnan(float(found["public_change_percent"]))


def test_the_change_is_over_the_requests_of_whoever_was_chosen() -> None:
    """Against 101.5, 101.5 and 91.5 ms in the mean, not against the best mean of each seed (91.5, 91.5 and 41.5)."""
    frame = requests(near=[100, 100, 40], even=[90, 90, 90], ours=[80, 80, 80], tuned=[99, 99, 99])
    found = against_best(of("ours", frame), frame, PUBLIC, exempt=("tuned",))
    assert (found["public"], found["public_seeds"]) == ("near", 2)
    assert found["public_change_percent"] == pytest.approx(100 * (3 * 81.5 / (2 * 101.5 + 91.5) - 1))
    for policy in ("near", "tuned"):
        exempt = against_best(of(policy, frame), frame, PUBLIC, exempt=("tuned",))
        assert exempt["public"] == "near"
        assert math.isnan(float(exempt["public_change_percent"]))


def changed(frame: pd.DataFrame, row: int, **values: Any) -> None:
    for column, value in values.items():
        frame.loc[row, column] = value


def test_who_waits_for_decode_waits_longer_than_a_step_of_its_own() -> None:
    frame = requests(ours=[80.0, 80.0])
    changed(frame, 0, admission_ms=30.0)  # a whole step, and no longer
    changed(frame, 1, admission_ms=31.0, cached_tokens=400)
    changed(frame, 2, admission_ms=500.0, tpot_ms=math.nan)  # one token: no step to compare with
    changed(frame, 3, admission_ms=900.0, status="failed", cached_tokens=1000)
    found = what_binds(frame)
    assert found["waiting_percent"] == pytest.approx(100 / 6)
    assert found["admission_ms"] == pytest.approx((30 + 31 + 500) / 7)
    assert found["cached_percent"] == pytest.approx(100 * 400 / 7000)


def test_a_wait_for_memory_before_the_transfer_is_a_wait_for_decode() -> None:
    frame = requests(ours=[80.0])
    changed(frame, 1, ttft_ms=181.0)  # 100 ms in no other part of it
    changed(frame, 2, ttft_ms=182.0, admission_ms=25.0)  # 100 ms in all, 25 of them after the transfer
    found = what_binds(frame)
    assert (found["waiting_percent"], found["admission_ms"]) == (50.0, pytest.approx((100 + 100) / 4))
