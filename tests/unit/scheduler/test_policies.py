"""Every policy on decisions worked by hand (`tests.support.one_decision`)."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scheduler import POLICIES, Candidates, NetworkSample, PolicyError, View, find_policy, reads_telemetry
from scheduler.in_flight import InFlight
from scheduler.policy import choose
from tests.support.one_decision import (
    DECODE,
    FABRIC,
    KAPPA,
    REQUEST,
    SERVER_OF,
    TABLE,
    candidates,
    per_decode,
    view,
)


def chosen(policy: str, seen: Candidates | None = None, network: View | None = None) -> int:
    return find_policy(policy)().select(REQUEST, seen or candidates(), network or view())


# Candidates


@pytest.mark.parametrize(
    ("cost", "given", "best"),
    [
        ({}, {}, {2, 3}),  # all equal: the lowest tier and load
        ({6: -1.0}, {}, {6}),
        ({3: -1.0, 2: -1.0, 10: -1.0}, {}, {2, 3}),  # tied: the nearer ones
        ({6: -1.0, 7: -1.0, 10: -1.0}, {"feasible": {6: False}}, {7}),
        ({2: -1.0, 3: -1.0}, {"waiting": {2: 1}}, {3}),  # tied in cost and tier: the less loaded
        ({2: -1.0, 3: -1.0}, {"running": {2: 2}, "waiting": {3: 1}}, {3}),
        ({2: -1.0, 3: -1.0}, {"running": {2: 1}, "waiting": {2: 1}, "sent_since": {3: 3}}, {2}),
        ({10: -1.0, 6: -1.0}, {"running": {6: 9}}, {6}),  # tier goes before load
        ({10: -1.0, 11: -1.0, 14: -1.0, 15: -1.0}, {}, {10, 11, 14, 15}),
        ({6: -1.0}, {"feasible": {6: False}}, {2, 3}),
    ],
)
def test_the_best_is_of_least_cost_then_tier_and_load_then_drawn(
    cost: dict[int, float], given: dict[str, dict[int, Any]], best: set[int]
) -> None:
    found = {candidates(seed, **given).best(per_decode(np.float64, cost, 0.0)) for seed in range(40)}
    assert found == best


def test_the_best_draws_for_a_tie_only() -> None:
    seen, untouched = candidates(seed=0), np.random.default_rng(0)
    seen.best(per_decode(np.float64, {7: -1.0}, 0.0))
    assert seen.rng.bit_generator.state == untouched.bit_generator.state
    seen.best(seen.tier)
    assert seen.rng.bit_generator.state != untouched.bit_generator.state


def test_ties_at_random_reach_every_feasible_instance() -> None:
    seen, rng = candidates(feasible={2: False}), np.random.default_rng(0)
    assert {seen.best_at_random(np.zeros(8), rng) for _ in range(200)} == set(DECODE) - {2}


# What the view says


def test_nominal_bandwidth_by_tier() -> None:
    assert (view().nominal_Bps(candidates()) / 1e9).tolist() == [25, 25, 12.5, 12.5, 6.25, 6.25, 6.25, 6.25]


def test_what_four_stripes_get_of_an_idle_fabric() -> None:
    """Two 12.5 GB/s aggregations: 25 x 4/5.5. Four 6.25 GB/s cores: 25 x 4/8.5 (E[fullest of 4] = 2.125)."""
    expected = np.repeat([25, 25 * 4 / 5.5, 25 * 4 / 8.5], [2, 2, 4])
    assert view(busy=()).available_Bps(candidates()) / 1e9 == pytest.approx(expected)


def test_a_full_link_still_leaves_the_share_of_one_among_three() -> None:
    assert view(busy=(SERVER_OF[2],)).available_Bps(candidates())[0] == pytest.approx(25e9 / 3)


def test_without_a_sample_the_view_is_infinitely_old_and_nominal() -> None:
    blind = view()
    assert blind.age_s == np.inf
    assert blind.available_Bps(candidates()).tolist() == blind.nominal_Bps(candidates()).tolist()


def test_the_age_of_the_view_is_that_of_its_sample() -> None:
    seen = view(busy=())
    seen.move_to(7.5)
    assert seen.age_s == 7.5


def test_our_own_traffic_is_taken_out_of_the_sample() -> None:
    """One transfer of ours fills the link: a second one shares with it, and with nobody else."""
    in_flight = InFlight(TABLE)
    in_flight.start(1, 4, 2, 25e9)
    assert view(busy=(SERVER_OF[2],), in_flight=in_flight).available_Bps(candidates())[0] == pytest.approx(12.5e9)


def test_bytes_are_kappa_times_what_is_missing_or_all() -> None:
    seen = candidates(cached_tokens={2: 512, 10: 1000})
    assert view().kv_bytes(REQUEST, seen)[[0, 1, 4]].tolist() == [488 * KAPPA, 1000 * KAPPA, 0]
    assert view(full=True).kv_bytes(REQUEST, seen).tolist() == [1000 * KAPPA] * 8


# Baselines


def test_round_robin_takes_turns_and_skips_who_cannot_hold_the_request() -> None:
    policy, seen, network = find_policy("round_robin")(), candidates(feasible={3: False, 15: False}), view()
    assert [policy.select(REQUEST, seen, network) for _ in range(8)] == [2, 6, 7, 10, 11, 14, 2, 6]


def test_random_is_uniform_over_the_feasible() -> None:
    policy, seen, network = find_policy("random")(), candidates(feasible={6: False}), view()
    drawn = [policy.select(REQUEST, seen, network) for _ in range(7000)]
    counts = {decode: drawn.count(decode) for decode in DECODE}
    assert counts.pop(6) == 0
    assert all(counts[decode] == pytest.approx(1000, abs=150) for decode in counts)  # 5 sigma


def test_least_loaded_counts_waiting_and_running() -> None:
    seen = candidates(waiting=dict.fromkeys(DECODE, 2) | {7: 0}, running={7: 1})
    assert chosen("least_loaded", seen) == 7


@pytest.mark.parametrize(
    ("cached", "waiting", "best"),
    [
        ({2: 1024}, {2: 4}, 2),  # 2 x 2/2 + 0 = 2 against 0 + 1
        ({2: 512, 3: 512}, {2: 4, 3: 3}, 3),  # 2 x 1/2 + 0 = 1; 2 x 1/2 + 1/4 = 1.25; the others 1
        ({2: 511}, {2: 4, 3: 1, 6: 2, 7: 3, 10: 3, 11: 3, 14: 3, 15: 3}, 3),  # no whole block: the shortest queue, 3/3
    ],
)
def test_cla_weighs_prefix_twice_and_queue_once(cached: dict[int, int], waiting: dict[int, int], best: int) -> None:
    assert chosen("cla", candidates(cached_tokens=cached, waiting=waiting)) == best


def test_cla_is_blind_to_the_network() -> None:
    seen = candidates(waiting=dict.fromkeys(DECODE, 1) | {15: 0})
    assert chosen("cla", seen, view(busy=(SERVER_OF[14],))) == 15


# The steps of NetKV


def test_topo_only_takes_the_nearest_tier_and_there_the_least_load() -> None:
    assert chosen("netkv_topo_only", candidates(waiting={2: 5, 3: 4})) == 3
    assert chosen("netkv_topo_only", candidates(admission_wait_s={2: 9.0, 3: 9.0})) == 2
    assert chosen("netkv_topo_only", candidates(feasible={2: False, 3: False})) == 6


@pytest.mark.parametrize("policy", ["netkv_static", "netkv_full", "netkv_fresh"])
@pytest.mark.parametrize(
    ("given", "best"),
    [
        ({}, 2),  # 13.1 ms is the least
        ({"admission_wait_s": {2: 0.012, 3: 0.012}}, 2),  # 25.1 ms against 26.2
        ({"admission_wait_s": {2: 0.014, 3: 0.014}}, 6),  # 27.1 ms against 26.2
        ({"first_step_s": {2: 0.014}}, 3),
        ({"cached_tokens": {10: 512}}, 2),  # 488 tokens at 6.25 GB/s: 25.6 ms against 13.1
        ({"cached_tokens": {10: 1000}}, 10),  # nothing to move
        ({"cached_tokens": {7: 512}}, 7),  # 488 tokens at 12.5 GB/s: 12.8 ms against 13.1
    ],
)
def test_static_adds_transfer_admission_and_step_and_full_without_telemetry_does_the_same(
    policy: str, given: dict[str, dict[int, Any]], best: int
) -> None:
    assert chosen(policy, candidates(**given)) == best


def test_full_leaves_a_congested_near_path_for_a_far_idle_one_and_returns() -> None:
    near = (SERVER_OF[2],)
    near_and_middle = (*near, SERVER_OF[6])
    assert chosen("netkv_full", network=view(busy=())) == 2
    assert chosen("netkv_full", network=view(busy=near)) == 6  # 8.3 GB/s against 18.2
    assert chosen("netkv_full", network=view(busy=near_and_middle)) == 10  # 8.3 GB/s against 11.8
    assert chosen("netkv_full", network=view(busy=tuple(SERVER_OF.values()))) == 2  # the same 8.3 GB/s everywhere
    assert chosen("netkv_full", network=view(busy=())) == 2


def test_static_does_not_see_congestion() -> None:
    assert chosen("netkv_static", network=view(busy=(SERVER_OF[2],))) == 2


def test_full_returns_on_the_same_view_when_congestion_clears() -> None:
    network = view(busy=(SERVER_OF[2],))
    assert chosen("netkv_full", network=network) == 6
    network.adopt(NetworkSample(1.0, np.zeros(len(FABRIC.links))))
    network.move_to(1.0)
    assert chosen("netkv_full", network=network) == 2


@pytest.mark.parametrize(
    ("policy", "transfers", "best"),
    [
        ("netkv_static", 0, 2),
        ("netkv_static", 1, 2),  # 25/2 against 12.5 GB/s: equal, but for 2 us of latency
        ("netkv_static", 2, 6),  # 25/3
        ("netkv_full", 0, 2),
        ("netkv_full", 1, 6),  # 25/2 against 18.2
        ("netkv_full", 2, 6),
    ],
)
def test_with_our_own_transfers_in_flight_to_the_nearest_it_moves_on(policy: str, transfers: int, best: int) -> None:
    in_flight = InFlight(TABLE)
    for request_id in range(transfers):
        in_flight.start(request_id, 4, 2 + request_id % 2, 1e9)  # from another rack into server 1
    assert chosen(policy, network=view(busy=(), in_flight=in_flight)) == best


# The contract


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_returns_a_feasible_candidate(policy: str) -> None:
    only = candidates(feasible=dict.fromkeys(DECODE, False) | {11: True})
    assert choose(find_policy(policy)(), policy, REQUEST, only, view(busy=())) == 11


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_policy_changes_nothing_of_what_it_is_shown(policy: str) -> None:
    seen, network = candidates(waiting={2: 3}, cached_tokens={6: 512}), view(busy=(SERVER_OF[2],))
    before = {name: np.copy(getattr(seen, name)) for name in Candidates.__dataclass_fields__}
    available = network.available_Bps(seen).copy()
    find_policy(policy)().select(REQUEST, seen, network)
    assert all(np.array_equal(getattr(seen, name), value) for name, value in before.items())
    assert np.array_equal(network.available_Bps(replace(seen)), available)


USER_POLICIES = """
class Nearest:
    def select(self, request, candidates, view):
        return candidates.best(candidates.tier)

class Raises(Nearest):
    def select(self, request, candidates, view):
        raise KeyError("rack")

class Unknown(Nearest):
    def select(self, request, candidates, view):
        return 99

class Nothing(Nearest):
    def select(self, request, candidates, view):
        return None

class Everything(Nearest):
    def select(self, request, candidates, view):
        return candidates.decode_id

class Infeasible(Nearest):
    def select(self, request, candidates, view):
        return candidates.decode_id[~candidates.feasible][0]

class Blind(Nearest):
    reads_telemetry = False

class NeedsMore(Nearest):
    def __init__(self, weight):
        self.weight = weight

class NoSelect:
    pass

def function(request, candidates, view):
    return 2

instance = Nearest()
number = 3
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a user's module of policies."""
    (tmp_path / "their_policies.py").write_text(USER_POLICIES)
    (tmp_path / "their_mistake.py").write_text("1 / 0\n")
    (tmp_path / "their_typo.py").write_text("def select(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_policies", raising=False)
    return "their_policies"


def test_a_users_own_policy_is_found_by_module_and_class(users: str) -> None:
    name = f"{users}:Nearest"
    assert choose(find_policy(name)(), name, REQUEST, candidates(), view()) == 2


def test_a_users_class_may_read_telemetry_unless_it_says_otherwise(users: str) -> None:
    assert reads_telemetry(f"{users}:Nearest")
    assert not reads_telemetry(f"{users}:Blind")
    assert reads_telemetry("no_such_module:X")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("fastest", "policy: 'fastest' is not one of round_robin, random"),
        ("their_policies:Missing", "policy: their_policies:Missing: module their_policies has no Missing"),
        ("their_policies:NoSelect", "policy: their_policies:NoSelect: not a class with a select method"),
        ("their_policies:function", "policy: their_policies:function: not a class with a select method"),
        ("their_policies:number", "policy: their_policies:number: not a class with a select method"),
        ("their_policies:instance", "policy: their_policies:instance: not a class with a select method"),
        ("no_such_module:X", "policy: no_such_module:X: cannot be imported: no module no_such_module, looked for in "),
        ("their_mistake:X", "policy: their_mistake:X: cannot be imported: ZeroDivisionError: division by zero"),
        ("their_typo:X", "policy: their_typo:X: cannot be imported: SyntaxError"),
        ("mine.py:X", "policy: mine.py:X: a file; its module is mine:X"),
        ("a/mine.py:X", "policy: a/mine.py:X: a file; its module is mine:X, typed in folder a"),
        (":X", "policy: :X: module:Class was expected"),
        ("their_policies:", "policy: their_policies:: module:Class was expected"),
        (".their_policies:X", "policy: .their_policies:X: module:Class was expected"),
    ],
)
def test_a_policy_that_cannot_be_found_is_named(users: str, name: str, complaint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        find_policy(name)
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize(
    ("name", "meant"), [("their_policies:Nearst", "Nearest"), ("their_polices:Nearest", "their_policies")]
)
def test_a_policy_of_nearly_that_name_is_suggested(
    users: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PolicyError, match=re.escape(f" (did you mean {meant}?)") + "$"):
        find_policy(name)


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ("Raises", "failed on request 0: KeyError: 'rack'"),
        ("Unknown", "chose 99 for request 0: no such decode instance"),
        ("Nothing", "chose None for request 0: a decode instance's number was expected"),
        ("Everything", "a decode instance's number was expected"),
        ("Infeasible", "for request 0: it can never hold it"),
    ],
)
def test_a_policy_that_breaks_its_contract_is_named(users: str, policy: str, complaint: str) -> None:
    name = f"{users}:{policy}"
    with pytest.raises(PolicyError) as caught:
        choose(find_policy(name)(), name, REQUEST, candidates(feasible={3: False}), view())
    assert str(caught.value).startswith(f"policy {name} ")
    assert complaint in str(caught.value)
