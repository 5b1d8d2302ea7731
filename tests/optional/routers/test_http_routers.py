"""SGLang's and vLLM's routers as processes, against our presets of them, before stub workers in a sandbox.

docs/explanation/real-routers-http.md has the times that `-q -s` prints.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from scenario import Scenario, WorkloadSpec, load_workload
from scheduler import PrefixIndex, new_policy
from tests.support.one_decision import DECODE, candidates, view
from tests.support.real_http_routers import ask, lacks, with_the_routers
from workloads import Request

pytestmark = [pytest.mark.live, pytest.mark.optional, pytest.mark.slow]

LOADS = [10, 20, 100, 200, 1000, 2000, 5000, 9000]
REQUESTS = 1000
SOON = ["--worker-startup-check-interval", 1]
MARGIN_S = 0.3
"""Around a poll: a load may be older or newer."""

BALANCE = {"threshold": 0.3, "abs": 4.0, "rel": 1.5}
AS_OPTIONS = ["--cache-threshold", 0.3, "--balance-abs-threshold", 4, "--balance-rel-threshold", 1.5]
SEEDS = 40
"""Of which each instance that a preset may choose is drawn at least once."""


@pytest.fixture(autouse=True, scope="module")
def installed() -> None:
    if lack := lacks("sglang_router") or lacks("vllm_router"):
        pytest.fail(lack)


def ours(policy: str, request: Request, **given: Any) -> set[int]:
    """The positions that a preset may choose."""
    seen = candidates(**given)
    chosen = {new_policy(policy, BALANCE).select(request, seen, view(seed=seed)) for seed in range(SEEDS)}
    return {DECODE.index(decode) for decode in chosen}


def theory() -> list[float]:
    """Of REQUESTS, how often the k-th emptiest of n wins: 2 (n - 1 - k) / (n (n - 1))."""
    n = len(DECODE)
    return [REQUESTS * 2 * (n - 1 - k) / (n * (n - 1)) for k in range(n)]


@pytest.mark.parametrize(
    ("flavour", "pd"), [("sglang", False), ("sglang", True), ("vllm", True)], ids=["sglang", "sglang PD", "vllm PD"]
)
def test_power_of_two_chooses_as_often_as_our_preset(flavour: str, pd: bool) -> None:
    found = ask("choices", flavour=flavour, pd=pd, policy="power_of_two", requests=REQUESTS, loads=LOADS, options=SOON)
    theirs = Counter(found["chosen"])
    preset, network = new_policy("power_of_two"), view()
    seen = candidates(reserved_tokens=dict(zip(DECODE, LOADS, strict=True)))
    request = Request(0, 0.0, 512, 10, (0,))
    took_ms, mine = [], Counter[int]()
    for _ in range(REQUESTS):
        started_s = time.perf_counter()
        mine[DECODE.index(preset.select(request, seen, network))] += 1
        took_ms.append(1e3 * (time.perf_counter() - started_s))
    for drawn in (theirs, mine):
        assert drawn[len(DECODE) - 1] == 0
        assert chisquare([drawn[k] for k in range(7)], theory()[:7]).pvalue > 1e-4
    through, direct = np.median(found["took_ms"]), np.median(found["direct_ms"])
    print(
        f"\n{flavour}{' PD' if pd else ''}: p50 {through:.2f} ms through the router, {direct:.2f} ms straight to"
        f" a worker; ours {np.median(took_ms):.3f} ms"
    )
    print(f"chosen {[theirs[k] for k in range(8)]}, ours {[mine[k] for k in range(8)]}")


@pytest.mark.parametrize(("flavour", "pd"), [("sglang", False), ("vllm", True)])
def test_power_of_two_decides_by_the_loads_of_its_last_poll(flavour: str, pd: bool) -> None:
    """Between two polls the loads are turned round, and the instance that was the fullest is still never chosen."""
    options = ["--worker-startup-check-interval", 2]
    found = ask("staleness", flavour=flavour, pd=pd, policy="power_of_two", loads=LOADS, for_s=7.0, options=options)
    next_poll_s = max(min(at_s for at_s, worker in found["polled"] if worker == k and at_s > 0) for k in range(8))
    before = {worker for at_s, worker in found["chosen"] if at_s < next_poll_s - MARGIN_S}
    after = {worker for at_s, worker in found["chosen"] if at_s > next_poll_s + MARGIN_S}
    assert (7 in before, 0 in before) == (False, True)
    assert (7 in after, 0 in after) == (True, False)


def test_loads_are_asked_for_every_30_s_by_default() -> None:
    """Both routers at the same time, because each takes a minute."""
    routers = {"sglang": False, "vllm": True}
    with ThreadPoolExecutor(len(routers)) as side_by_side:
        asked = {
            flavour: side_by_side.submit(ask, "polls", flavour=flavour, pd=pd, policy="power_of_two", for_s=65.0)
            for flavour, pd in routers.items()
        }
    for flavour, polls in asked.items():
        polled_s = polls.result()["polled"]
        gaps_s = np.diff([at_s for at_s in polled_s if at_s > 0])
        print(f"\n{flavour}: loads asked for {np.round(polled_s, 1).tolist()} s after it was ready")
        assert len(gaps_s) >= 1
        assert gaps_s == pytest.approx(new_policy("power_of_two").refresh_s, abs=1.0)  # type: ignore[attr-defined]


def test_a_kill_leaves_no_router() -> None:
    order = {"flavour": "sglang", "policy": "power_of_two", "for_s": 100.0}
    program = f"from tests.support.real_http_routers import ask; ask('polls', **{order!r})"
    with subprocess.Popen([sys.executable, "-c", program], env=with_the_routers()) as asking:
        try:
            router = wait_for(lambda: [pid for pid in below(asking.pid) if b"router" in title_of(pid)][-1:])
            family = below(asking.pid)
        finally:
            asking.kill()
    assert len(family) > 3
    assert router
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


def wait_for(found: Callable[[], Any]) -> Any:
    until_s = time.monotonic() + 30
    while not (result := found()) and time.monotonic() < until_s:
        time.sleep(0.05)
    return result


def title_of(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
    return b""


def below(pid: int) -> list[int]:
    """A process and all that it has started, through whatever lies between."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


@pytest.mark.parametrize("flavour", ["sglang", "vllm"])
@pytest.mark.parametrize("held_for", [0, 24], ids=["idle", "busy"])
def test_cache_aware_chooses_what_our_preset_may_choose(flavour: str, held_for: int) -> None:
    """Request by request, with the books that follow from what the router has chosen so far."""
    other, busier, tied = [], 0, Counter[int]()
    uneven = matched = 0
    for request, cached, outstanding, theirs in decisions(flavour, held_for):
        may = ours("sglang_cache_aware", request, cached_tokens=cached, outstanding=outstanding)
        loads = [outstanding[decode] for decode in DECODE]
        uneven += int(max(loads) - min(loads) > BALANCE["abs"])
        matched += int(max(cached.values()) > BALANCE["threshold"] * request.input_length)
        busier += int(loads[theirs] > min(loads[one] for one in may))
        if theirs not in may:
            other.append((request.request_id, theirs, sorted(may), loads))
        elif len(may) > 1:
            tied[sorted(may).index(theirs)] += 1
    print(
        f"\n{flavour} cache_aware, {held_for} held: {len(other)} of {REQUESTS} differ {other[:3]}; {uneven} on uneven"
        f" loads, {matched} with a good match; ties to {sorted(tied.items())}, {busier} of them not to the least loaded"
    )
    assert other == []
    assert matched > 300
    assert (uneven > 0) == (held_for > 0)
    assert flavour == "sglang" or busier == 0


def test_vllm_without_its_workers_tokens_goes_to_the_least_loaded() -> None:
    """Its cache-aware rule is on tokens that its workers must give it: without them no match counts."""
    matched_elsewhere = 0
    for request, cached, outstanding, theirs in decisions("vllm", 24, tokenizes=False):
        loads = [outstanding[decode] for decode in DECODE]
        assert loads[theirs] == min(loads)
        may = ours("sglang_cache_aware", request, cached_tokens=cached, outstanding=outstanding)
        matched_elsewhere += int(theirs not in may)
    print(f"\nvllm cache_aware without tokens: {matched_elsewhere} of {REQUESTS} are not the preset's")
    assert matched_elsewhere > REQUESTS / 10


def decisions(
    flavour: str, held_for: int, **order: Any
) -> Iterator[tuple[Request, dict[int, int], dict[int, int], int]]:
    """Each request of the conversation, what each instance had cached and running then, and whom the router took."""
    scenario = Scenario(workload=WorkloadSpec(requests=REQUESTS))
    prompts = [request.block_ids for request in load_workload(scenario).requests]
    order |= {"prompts": prompts, "held_for": held_for, "options": AS_OPTIONS}
    chosen = ask("held", flavour=flavour, policy="cache_aware", **order)["chosen"]
    held, outstanding, running = PrefixIndex(len(DECODE), 10**9), np.zeros(len(DECODE), int), []
    for number, (block_ids, theirs) in enumerate(zip(prompts, chosen, strict=True)):
        request = Request(number, 0.0, 512 * len(block_ids), 10, tuple(block_ids))
        cached = dict(zip(DECODE, (512 * held.matched_blocks(block_ids)).tolist(), strict=True))
        yield request, cached, dict(zip(DECODE, outstanding.tolist(), strict=True)), theirs
        held.insert(theirs, block_ids)
        outstanding[theirs] += 1
        running.append(theirs)
        if len(running) > held_for:
            outstanding[running.pop(0)] -= 1
