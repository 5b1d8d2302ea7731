"""The dispatcher: its books, its refusals, and that the same seed always makes the same decisions."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenario import Scenario
from scheduler import POLICIES, Candidates, Dispatcher, InfeasibleError, NetworkSample, PolicyError, View
from tests.support.one_decision import FABRIC, ROLES
from tests.support.paths import ROOT
from tests.support.seeded_decisions import decisions
from workloads import Request

BOOKS = ("waiting", "running", "reserved_tokens", "prompt_tokens", "sent_since")


class Spy:
    """NetKV-Static's stand-in that notes what it was shown, copied because the books go on changing."""

    def __init__(self) -> None:
        self.shown: Candidates
        self.nominal_Bps: list[float]

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        books = {name: np.copy(getattr(candidates, name)) for name in BOOKS}
        self.shown = replace(candidates, **books)  # type: ignore[arg-type]
        self.nominal_Bps = view.nominal_Bps(candidates).tolist()
        return candidates.best(candidates.tier)


def dispatcher(spy: Spy | None = None, **fields: Any) -> Dispatcher:
    scenario = Scenario.model_validate({"seed": 73} | fields)  # its first ties of two go to the first
    ticks = count(0, 7_000)
    return Dispatcher(scenario, FABRIC, ROLES, spy, stopwatch=lambda: next(ticks))


def request(number: int, tokens: int = 1000, blocks: tuple[int, ...] = ()) -> Request:
    return Request(number, 0.0, tokens, 10, blocks)


def sample(sampled_s: float) -> NetworkSample:
    return NetworkSample(sampled_s, np.zeros(len(FABRIC.links)))


def test_cached_tokens_are_whole_blocks_of_the_traces_own_size() -> None:
    """Two prompts of 521 tokens in blocks of 16 that share three: 48 tokens are cached, 473 are moved."""
    made = Dispatcher(Scenario(policy="ca"), FABRIC, ROLES, block_tokens=16)
    first, second = (Request(k, 0.0, 521, 5, (0, 1, 2, *range(10 + 30 * k, 40 + 30 * k)), 16) for k in range(2))
    made.select(first, 0, 0.0)
    made.transferred(0)
    decision = made.select(second, 0, 1.0)
    assert (decision.cached_tokens, decision.kv_bytes) == (48, 473 * 327_680)


def test_a_decision_says_what_it_was_based_on() -> None:
    made = dispatcher(policy="netkv_full")
    made.offer_sample(sample(4.0), 4.5)
    decision = made.select(request(3), 0, 6.0)
    assert (decision.request_id, decision.prefill_id, decision.decode_id, decision.tier) == (3, 0, 2, 1)
    assert decision.kv_bytes == 327_680_000
    assert decision.predicted_kv_transfer_ms == pytest.approx(13.1072 + 0.004)  # 25 GB/s and 4 us
    assert decision.oracle_age_ms == pytest.approx(2000)
    assert decision.snapshot_s == pytest.approx(4.0)
    assert decision.decision_us == 7.0
    assert decision.fallback == ""


def test_telemetry_that_never_came_is_recorded_as_a_fallback_of_who_reads_it() -> None:
    blind = dispatcher(policy="netkv_full").select(request(0), 0, 0.0)
    assert blind.fallback == "no telemetry"
    assert blind.oracle_age_ms == np.inf
    assert np.isnan(blind.snapshot_s)
    assert dispatcher(policy="netkv_static").select(request(0), 0, 0.0).fallback == ""


def test_a_sample_that_was_not_due_or_is_not_newer_leaves_the_old_one_to_age() -> None:
    made = dispatcher(policy="netkv_full", oracle={"refresh_s": 1.0})
    for sampled_s, now_s in ((0.0, 0.0), (0.5, 0.5), (-1.0, 1.0)):
        made.offer_sample(sample(sampled_s), now_s)
    assert made.select(request(0), 0, 1.5).oracle_age_ms == pytest.approx(1500)


def test_a_document_that_was_due_and_refused_makes_decisions_fall_back_until_the_next() -> None:
    made = dispatcher(policy="netkv_full", oracle={"refresh_s": 1.0})
    made.offer_sample(sample(0.0), 0.0)
    made.offer_sample(None, 0.5, "not due, so it does not matter")
    assert made.select(request(0), 0, 0.6).fallback == ""
    made.offer_sample(None, 1.0, "links: missing")
    assert made.select(request(1), 0, 1.5).fallback == "no telemetry: links: missing"
    made.offer_sample(sample(2.0), 2.0)
    assert made.select(request(2), 0, 2.5).fallback == ""


def test_a_cached_prefix_is_not_moved_again() -> None:
    made = dispatcher(policy="netkv_topo_only")
    made.select(request(0, 1100, (7, 8, 9)), 0, 0.0)
    made.transferred(0)
    made.admitted(0)
    made.finished(0)
    again = made.select(request(1, 1100, (7, 8, 5)), 0, 1.0)
    assert (again.decode_id, again.cached_tokens, again.kv_bytes) == (2, 1024, 76 * 327_680)


def test_a_prompt_that_is_all_there_takes_no_transfer() -> None:
    made = dispatcher(policy="netkv_topo_only")
    made.select(request(0, 1000, (7, 8)), 0, 0.0)
    made.transferred(0)
    made.admitted(0)
    made.finished(0)
    again = made.select(request(1, 1000, (7, 8)), 0, 1.0)
    assert (again.cached_tokens, again.kv_bytes, again.predicted_kv_transfer_ms) == (1000, 0, 0.0)
    made.transferred(1)


def test_with_full_transfers_a_cached_prefix_is_moved_all_the_same() -> None:
    made = dispatcher(policy="netkv_topo_only", serving={"transfer": "full"})
    made.select(request(0, 1000, (7, 8)), 0, 0.0)
    made.transferred(0)
    again = made.select(request(1, 1000, (7, 8)), 0, 1.0)
    assert again.kv_bytes == 1000 * 327_680


def test_a_request_that_no_instance_could_ever_hold_is_refused_with_the_numbers() -> None:
    made = dispatcher(serving={"kv_memory_tokens": 1009})
    with pytest.raises(InfeasibleError, match="needs 1010 tokens of KV memory, an instance has 1009"):
        made.select(request(0, 1000), 0, 0.0)
    assert made.select(request(1, 999), 0, 0.0).request_id == 1


def test_a_refused_request_leaves_the_books_alone() -> None:
    spy = Spy()
    made = dispatcher(spy, serving={"kv_memory_tokens": 1500})
    with pytest.raises(InfeasibleError):
        made.select(request(0, 2000), 0, 0.0)
    made.select(request(1), 0, 0.0)
    assert not spy.shown.waiting.any()


def test_load_is_counted_from_dispatch_to_the_end() -> None:
    spy = Spy()
    made = dispatcher(spy)
    made.select(request(0), 0, 0.0)
    made.select(request(1), 0, 0.0)
    assert (spy.shown.waiting[0], spy.shown.running[0], spy.shown.reserved_tokens[0]) == (1, 0, 1343)
    made.transferred(0)
    made.admitted(0)
    made.select(request(2), 0, 0.0)  # 1 went to instance 3, the less loaded
    assert (spy.shown.waiting[:2].tolist(), spy.shown.running[:2].tolist()) == ([0, 1], [1, 0])
    assert spy.shown.kv_use[0] == pytest.approx(1343 / 400_000)


def test_an_old_view_of_the_load_stays_as_it_was_until_its_refresh() -> None:
    spy = Spy()
    made = dispatcher(spy, oracle={"load_refresh_s": 2.0})
    seen = []
    for number, now_s in enumerate((0.0, 0.5, 1.9, 2.0, 3.0)):
        made.select(request(number), 0, now_s)
        seen.append(int(spy.shown.waiting.sum()))
    assert seen == [0, 0, 0, 3, 3]


def test_what_the_scheduler_counts_by_itself_is_never_old() -> None:
    spy = Spy()
    made = dispatcher(spy, oracle={"load_refresh_s": 2.0})
    seen = []
    for number, now_s in enumerate((0.0, 0.5, 1.9, 2.0, 3.0)):
        made.select(request(number), 0, now_s)
        shown = spy.shown
        seen.append((int(shown.outstanding.sum()), int(shown.prompt_tokens.sum()), int(shown.sent_since.sum())))
    assert seen == [(0, 0, 0), (1, 1000, 1), (2, 2000, 2), (3, 3000, 0), (4, 4000, 1)]


def test_the_wait_counts_what_was_sent_since_the_load_was_looked_at_until_it_ends() -> None:
    """One slot an instance and nobody in it: each that was sent makes the next wait for an answer of 343 tokens."""
    spy = Spy()
    made = dispatcher(spy, oracle={"load_refresh_s": 60.0}, serving={"batch_slots": 1})
    sent_to = [made.select(request(number), 0, 0.0).decode_id for number in range(4)]
    assert sorted(sent_to) == [2, 2, 3, 3]  # the nearest two, in turn
    made.select(request(4), 0, 1.0)
    answer_s = 343 * 0.030
    assert spy.shown.waiting.sum() == 0  # the snapshot is that of the beginning
    assert spy.shown.admission_wait_s[:3] == pytest.approx([2 * answer_s, 2 * answer_s, 0.0])
    for number in range(5):
        for event in (made.transferred, made.admitted, made.finished):
            event(number)
    made.select(request(5), 0, 2.0)
    assert not spy.shown.sent_since.any()
    assert not spy.shown.admission_wait_s.any()


def test_memory_that_was_promised_since_the_load_was_looked_at_is_waited_for() -> None:
    waits = []
    for refresh_s in (0.0, 60.0):
        spy = Spy()
        made = dispatcher(spy, oracle={"load_refresh_s": refresh_s}, serving={"kv_memory_tokens": 120_000})
        for number in range(4):
            made.select(request(number, 60_000), 0, 0.0)
        waits.append(spy.shown.admission_wait_s.tolist())
    assert waits[0] == waits[1]
    assert max(waits[0]) > 0


def test_no_decision_depends_on_how_long_an_answer_will_be() -> None:
    """Prompts that bind memory, with answers of 1 and of 50,000 tokens: every book is the same until one finishes."""

    def shown(output_tokens: int) -> list[list[float]]:
        spy = Spy()
        made = dispatcher(spy, serving={"kv_memory_tokens": 120_000})
        rows = []
        for number in range(12):
            made.select(Request(number, 0.0, 60_000, output_tokens, ()), ROLES.prefill[number % 8], float(number))
            made.transferred(number)
            if number % 2:
                made.admitted(number)
            books = (spy.shown.reserved_tokens, spy.shown.kv_use, spy.shown.admission_wait_s, spy.shown.first_step_s)
            rows.append(np.concatenate(books).tolist())
        return rows

    short = shown(1)
    assert short == shown(50_000)
    assert max(map(max, short)) > 120_000  # the last found memory full: its wait was estimated, too


def test_the_answer_expected_is_the_mean_of_those_that_have_finished() -> None:
    spy = Spy()
    made = dispatcher(spy)
    for number, output_tokens in enumerate((100, 307)):
        made.select(Request(number, 0.0, 1000, output_tokens, ()), 0, 0.0)
        for event in (made.transferred, made.admitted):
            event(number)
    made.finished(0)
    made.finished(1)
    made.select(request(2), 0, 1.0)
    made.select(request(3), 0, 1.0)
    assert spy.shown.reserved_tokens.max() == 1000 + 250  # (343 + 100 + 307) / 3


EVENTS = {
    "placed": ("transferred", "failed"),
    "transferred": ("admitted", "failed"),
    "admitted": ("finished", "failed"),
}


@settings(max_examples=120)
@given(data=st.data())
def test_the_books_return_to_zero_whatever_becomes_of_the_requests(data: st.DataObject) -> None:
    spy = Spy()
    made = dispatcher(spy, serving={"prefix_cache_tokens": 0})
    made.select(request(1000), 0, 0.0)
    idle_Bps = spy.nominal_Bps
    made.failed(1000)
    stage: dict[int, str] = {}
    for step in range(data.draw(st.integers(1, 25))):
        if not stage or data.draw(st.booleans()):
            made.select(request(step), data.draw(st.sampled_from(ROLES.prefill)), float(step))
            stage[step] = "placed"
        else:
            advance(made, stage, data.draw(st.sampled_from(sorted(stage))), data.draw(st.booleans()))
        assert min(spy.shown.waiting.min(), spy.shown.running.min(), spy.shown.reserved_tokens.min()) >= 0
    while stage:
        advance(made, stage, data.draw(st.sampled_from(sorted(stage))), data.draw(st.booleans()))
    made.select(request(2000), 0, 99.0)
    assert not spy.shown.waiting.any()
    assert not spy.shown.running.any()
    assert not spy.shown.reserved_tokens.any()
    assert not spy.shown.prompt_tokens.any()
    assert not spy.shown.outstanding.any()
    assert spy.shown.first_step_s.tolist() == [0.030] * 8
    assert spy.nominal_Bps == idle_Bps


def advance(made: Dispatcher, stage: dict[int, str], number: int, well: bool) -> None:
    """The next thing to happen to a request: one step on, or its failure."""
    event = EVENTS[stage[number]][0 if well else 1]
    getattr(made, event)(number)
    if event in ("finished", "failed"):
        del stage[number]
    else:
        stage[number] = event


# The same seed, the same decisions


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_policy_repeats_itself_with_the_same_seed(policy: str) -> None:
    assert decisions(policy) == decisions(policy)


@pytest.mark.parametrize("policy", ["random", "least_loaded", "netkv_topo_only", "netkv_full", "paper_full"])
def test_another_seed_draws_other_ties(policy: str) -> None:
    assert decisions(policy) != decisions(policy, seed=1)


ALL_DECISIONS = "from tests.support.seeded_decisions import *; print({p: decisions(p) for p in sorted(POLICIES)})"


def test_decisions_do_not_depend_on_the_order_of_hashes() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", ALL_DECISIONS],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{ {policy: decisions(policy) for policy in sorted(POLICIES)} }\n"}


# A user's own policy


USERS = """
class First:
    def select(self, request, candidates, view):
        return int(candidates.decode_id[candidates.feasible][0])

class NeedsMore(First):
    def __init__(self, weight):
        self.weight = weight
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "policies_of_a_user.py").write_text(USERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "policies_of_a_user"


def test_a_users_own_policy_drives_the_dispatcher(users: str) -> None:
    assert dispatcher(policy=f"{users}:First").select(request(0), 4, 0.0).decode_id == 2


def test_a_class_that_cannot_be_made_is_named(users: str) -> None:
    with pytest.raises(PolicyError, match=f"policy: {users}:NeedsMore: cannot be made: TypeError"):
        dispatcher(policy=f"{users}:NeedsMore")
