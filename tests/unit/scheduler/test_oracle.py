"""The scheduler's end of the oracle: which cost documents it believes, and how a sample gets old."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler import NetworkSample, OracleError, StalenessStage, parse_document
from topologies import FabricSpec, build_fattree

LINKS = ("h0>srv0", "srv0>h0")


def document(**changes: Any) -> dict[str, Any]:
    links = {name: {"utilisation": 0.25 * at} for at, name in enumerate(LINKS)}
    return {"schema": "netkv.cost/v1", "sampled_monotonic_s": 12.5, "links": links, **changes}


def with_link(utilisation: Any) -> dict[str, Any]:
    return document(links={LINKS[0]: {"utilisation": utilisation}, LINKS[1]: {"utilisation": 0}})


def test_a_document_becomes_a_sample_in_the_fabrics_order() -> None:
    sample = parse_document(document(), LINKS[::-1])
    assert sample.sampled_s == 12.5
    assert sample.utilisation.tolist() == [0.25, 0.0]
    assert sample.age_s(14.0) == 1.5


def test_a_link_a_little_over_its_rate_is_full() -> None:
    assert parse_document(with_link(1.5), LINKS).utilisation.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (None, "document: an object was expected, not NoneType"),
        ([], "document: an object was expected, not list"),
        ({}, "schema: None is not 'netkv.cost/v1'"),
        (document(schema="netkv.cost/v2"), "schema: 'netkv.cost/v2' is not 'netkv.cost/v1'"),
        (document(sampled_monotonic_s=None), "sampled_monotonic_s: None is not a number"),
        (document(sampled_monotonic_s="12.5"), "sampled_monotonic_s: '12.5' is not a number"),
        (document(sampled_monotonic_s=math.nan), "sampled_monotonic_s: nan is negative, not finite or absurd"),
        (document(sampled_monotonic_s=-1), "sampled_monotonic_s: -1 is negative"),
        (document(sampled_monotonic_s=10**400), "sampled_monotonic_s: 1000"),
        (document(links=None), "links: an object of links was expected"),
        (document(links=[0.1, 0.2]), "links: an object of links was expected"),
        (document(links={LINKS[0]: {"utilisation": 0}}), "links: srv0>h0: missing"),
        (document(links={LINKS[0]: 0.5, LINKS[1]: 0.5}), "links: h0>srv0: missing"),
        (with_link(None), "links: h0>srv0: utilisation: None is not a number"),
        (with_link(True), "links: h0>srv0: utilisation: True is not a number"),
        (with_link("0.5"), "links: h0>srv0: utilisation: '0.5' is not a number"),
        (with_link(math.nan), "links: h0>srv0: utilisation: nan is negative, not finite"),
        (with_link(math.inf), "links: h0>srv0: utilisation: inf is negative, not finite"),
        (with_link(-0.01), "links: h0>srv0: utilisation: -0.01 is negative"),
        (with_link(1.51), "links: h0>srv0: utilisation: 1.51 is beyond 1.5"),
        (with_link(10**400), "links: h0>srv0: utilisation: 1000"),
        (
            document(links={**document()["links"], "h9>srv9": {"utilisation": 0}}),
            "links: h9>srv9: no such link in this fabric",
        ),
    ],
)
def test_a_document_that_cannot_be_believed_is_refused_by_the_place(bad: Any, complaint: str) -> None:
    with pytest.raises(OracleError, match=f"^{re.escape(complaint)}"):
        parse_document(bad, LINKS)


def test_the_document_of_a_whole_fabric() -> None:
    names = [link.name for link in build_fattree(FabricSpec()).links]
    links = {name: {"utilisation": 1 / (at + 1)} for at, name in enumerate(names)}
    assert parse_document(document(links=links), names).utilisation == pytest.approx(1 / np.arange(1, len(names) + 1))


# Staleness


def sample(sampled_s: float) -> NetworkSample:
    return NetworkSample(sampled_s, np.zeros(1))


def test_the_first_sample_is_due_at_once_and_every_further_one_after_the_interval() -> None:
    stage, adopted = StalenessStage(2.0), []
    for tenth in range(80):
        now_s = tenth / 10
        if stage.offer(sample(now_s), now_s):
            adopted.append(now_s)
    assert adopted == [0.0, 2.0, 4.0, 6.0]


def test_between_refreshes_a_fresh_sample_is_not_seen() -> None:
    stage = StalenessStage(10.0)
    stage.offer(sample(0.0), 0.0)
    assert not stage.offer(sample(9.9), 9.9)
    assert stage.held is not None
    assert stage.held.age_s(9.9) == 9.9


def test_an_older_or_equal_sample_never_replaces_a_newer_one() -> None:
    stage = StalenessStage(1.0)
    newer = sample(5.0)
    assert stage.offer(newer, 5.0)
    assert not stage.offer(sample(4.0), 6.0)
    assert not stage.offer(sample(5.0), 7.0)
    assert stage.held is newer


def test_a_reading_that_failed_uses_its_turn_up() -> None:
    stage = StalenessStage(2.0)
    stage.offer(sample(0.0), 0.0)
    assert not stage.offer(None, 2.0)
    assert not stage.offer(sample(3.0), 3.0)
    assert stage.offer(sample(4.0), 4.0)


def test_after_missed_turns_the_next_is_counted_from_now() -> None:
    stage = StalenessStage(2.0)
    stage.offer(sample(0.0), 0.0)
    assert stage.offer(sample(7.5), 7.5)  # turns at 2, 4 and 6 s were missed
    assert stage.next_due_s() == 9.5


def test_a_late_turn_does_not_shift_the_ones_after_it() -> None:
    stage = StalenessStage(2.0)
    stage.offer(sample(0.0), 0.0)
    stage.offer(sample(2.3), 2.3)
    assert stage.next_due_s() == 4.0


@settings(max_examples=150)
@given(
    refresh_s=st.sampled_from([0.1, 1.0, 2.5]),
    steps=st.lists(st.tuples(st.floats(0, 3), st.one_of(st.none(), st.floats(0, 5))), min_size=1, max_size=40),
)  # each step: seconds since the last one, and how old the offered sample is (None: nothing could be read)
def test_whatever_is_offered_a_sample_only_gets_older_until_a_newer_one_comes(
    refresh_s: float, steps: list[tuple[float, float | None]]
) -> None:
    stage, now_s, held_s, adoptions_s = StalenessStage(refresh_s), 0.0, -math.inf, [-math.inf]
    for step_s, age_s in steps:
        now_s += step_s
        due = stage.due(now_s)
        offered = None if age_s is None else sample(now_s - age_s)
        adopted = stage.offer(offered, now_s)
        if adopted:
            assert due
            assert offered is stage.held
            assert offered is not None
            assert offered.sampled_s > held_s
            held_s = offered.sampled_s
            adoptions_s.append(now_s)
        assert (stage.held.sampled_s if stage.held else -math.inf) == held_s
        assert stage.next_due_s() > now_s
        assert stage.next_due_s() <= now_s + refresh_s + 1e-9


# What happens to a sample on its way


def full(sampled_s: float, utilisation: float = 0.5, links: int = 2) -> NetworkSample:
    return NetworkSample(sampled_s, np.full(links, utilisation))


def test_never_is_one_sample_and_then_none() -> None:
    stage = StalenessStage(math.inf)
    assert stage.offer(full(0.0), 0.5)
    assert stage.next_due_s() == math.inf
    assert not stage.offer(full(1e6), 1e6)
    assert stage.held is not None
    assert stage.held.age_s(100.0) == 100.0


def test_a_delayed_sample_arrives_later_and_is_older() -> None:
    stage = StalenessStage(1.0, delay_s=2.5)
    assert not stage.offer(full(0.0), 0.0)
    assert not stage.offer(full(1.0), 1.0)
    assert not stage.deliver(2.4)
    assert stage.held is None
    assert stage.deliver(2.5)
    assert stage.held is not None
    assert stage.held.age_s(2.5) == 2.5
    assert stage.deliver(9.0)
    assert stage.held.sampled_s == 1.0
    assert not stage.deliver(9.0)


@pytest.mark.parametrize("loss", [0.0, 0.3, 1.0])
def test_updates_are_lost_with_their_probability(loss: float) -> None:
    stage = StalenessStage(1.0, loss=loss, rng=np.random.default_rng(1))
    adopted = sum(stage.offer(full(float(turn)), float(turn)) for turn in range(2000))
    assert 1 - adopted / 2000 == pytest.approx(loss, abs=0.03)


def test_noise_multiplies_every_link_by_a_lognormal_factor() -> None:
    stage = StalenessStage(1.0, noise=0.2, rng=np.random.default_rng(1))
    stage.offer(full(3.0, 0.1, links=20_000), 3.0)
    assert stage.held is not None
    factor = np.log(stage.held.utilisation / 0.1)
    assert (factor.mean(), factor.std()) == pytest.approx((0.0, 0.2), abs=0.01)
    assert stage.held.sampled_s == 3.0


def test_noise_never_fills_a_link_beyond_its_rate() -> None:
    stage = StalenessStage(1.0, noise=2.0, rng=np.random.default_rng(1))
    stage.offer(full(3.0, 0.9, links=1000), 3.0)
    assert stage.held is not None
    assert stage.held.utilisation.max() == 1.0


def test_smoothing_is_an_exponential_average_with_the_time_stamp_of_the_newest() -> None:
    stage = StalenessStage(1.0, smoothing_s=2.0)
    stage.offer(full(0.0, 0.0), 0.0)
    stage.offer(full(2.0, 1.0), 2.0)
    assert stage.held is not None
    assert stage.held.utilisation == pytest.approx(1 - math.exp(-1))
    assert stage.held.sampled_s == 2.0


def test_the_same_seed_draws_the_same_losses_and_noise() -> None:
    def held(seed: int) -> list[float]:
        stage = StalenessStage(1.0, loss=0.5, noise=0.5, rng=np.random.default_rng(seed))
        seen = []
        for turn in range(50):
            stage.offer(full(float(turn)), float(turn))
            seen.append(stage.held.utilisation[0] if stage.held else math.nan)
        return seen

    assert held(3)[5:] == held(3)[5:]
    assert held(3)[5:] != held(4)[5:]


def test_a_link_that_is_down_is_full_whatever_its_counter_says() -> None:
    assert parse_document(document(links_down=[LINKS[0]]), LINKS).utilisation.tolist() == [1.0, 0.25]


def test_while_frozen_nothing_arrives_and_what_is_offered_is_lost() -> None:
    stage = StalenessStage(1.0, delay_s=0.5)
    stage.offer(full(0.0), 0.0)
    stage.frozen = True
    assert not stage.deliver(0.6)
    assert not stage.offer(full(1.0), 1.0)
    stage.frozen = False
    assert stage.deliver(2.0)
    assert stage.held is not None
    assert stage.held.sampled_s == 0.0
    assert stage.next_due_s() == 2.0


def test_what_was_delayed_more_does_not_hold_up_what_comes_after_it() -> None:
    stage = StalenessStage(1.0)
    stage.extra_delay_s = 5.0
    stage.offer(full(0.0), 0.0)
    stage.extra_delay_s = 0.0
    assert stage.offer(full(1.0), 1.0)
    assert not stage.deliver(6.0)  # older than what is held
