"""What the live view shows of a look: its line, its screen, and the change against the baseline."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from experiments.running import SpecError, make_spec, open_world, verdict_of, write_run
from experiments.watching import Baseline, LiveView, baseline_of
from experiments.watching.live_view import fullest, kinds_of
from serving import RunLook, TransferUnderWay
from topologies import FabricSpec, build_fattree

FABRIC = build_fattree(FabricSpec())
STAGES = {"queue": 2, "prefill": 3, "transfer": 1, "admission": 0, "decode": 9}
IDLE = dict.fromkeys((link.name for link in FABRIC.links), 0.0)
LOOK = RunLook(
    at_s=12.34,
    stages=STAGES,
    closed=3,
    failed=1,
    transfers=(TransferUnderWay(7, 0, 13, 3, 1_234_000_000, 0.14),),
    snapshot_age_s=0.084,
    ttft_ms={0: 300.0, 1: 200.0},
    utilisation=IDLE | {"tor1>srv2": 0.81},
)


def drawn(view: LiveView, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(view.screen())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_line_has_all_of_a_look() -> None:
    view = LiveView(FABRIC, "netkv_full", 50, Baseline("round_robin", {0: 400.0, 1: 400.0, 2: 9.0}))
    view.take(LOOK)
    assert view.line() == (
        "  12.3 s | 3/50 over (1 failed) | queue 2 prefill 3 transfer 1 admission 0 decode 9 | snapshot 0.08 s"
        " | TTFT 250 ms, round_robin 400 ms: -37.5 % (requests: 2) | tor1>srv2 81 %"
    )


def test_ttft_is_compared_over_requests_that_both_have() -> None:
    view = LiveView(FABRIC, "netkv_full", 50, Baseline("cla", {1: 100.0}))
    view.take(LOOK)
    assert "TTFT 200 ms, cla 100 ms: +100.0 % (requests: 1)" in view.line()


def test_what_is_unknown_is_not_invented() -> None:
    view = LiveView(FABRIC, "netkv_full", 50)
    assert view.line() == "netkv_full: starting"
    view.take(RunLook(0.0, dict.fromkeys(STAGES, 0), 0, 0, (), None, {}, {}))
    assert "snapshot none | TTFT -" in view.line()


def test_the_screen_shows_links_as_bars_and_transfers() -> None:
    view = LiveView(FABRIC, "netkv_full", 50)
    view.take(LOOK)
    text = drawn(view)
    assert "3 of 50 over, 1 failed" in text
    assert "tor1>srv2" in text
    assert "81 %" in text
    assert "#7" in text
    assert "1.23 GB" in text
    (line,) = (line for line in text.splitlines() if line.startswith("ToR to server"))
    assert line.split()[-1] == "··▆·····"
    assert max(map(len, text.splitlines())) <= 80


def test_the_screen_keeps_its_height() -> None:
    view = LiveView(FABRIC, "netkv_full", 50)
    view.take(LOOK)
    first = drawn(view).count("\n")
    view.take(RunLook(1.0, STAGES, 3, 1, LOOK.transfers * 9, None, {}, IDLE))
    assert drawn(view).count("\n") == first


def test_every_link_is_of_one_kind_and_many_links_share_letters() -> None:
    kinds = kinds_of(FABRIC)
    assert list(kinds)[:2] == ["instance to server", "server to instance"]
    assert sorted(name for names in kinds.values() for name in names) == sorted(IDLE)
    assert fullest([0.1, 0.9, 0.2, 0.3, 0.4], 2) == [0.9, 0.4]
    assert fullest([], 2) == []


SMALL = {"world": "analytic", "workload": {"requests": 12}}


def test_a_baseline_is_a_policy_or_a_run(tmp_path: Path) -> None:
    spec = make_spec(SMALL, {})
    policy = baseline_of(spec, "round_robin")
    assert (policy.name, len(policy.ttft_ms)) == ("round_robin", 12)
    other = make_spec(SMALL, {"policy": "round_robin"})
    with open_world(other) as world:
        outcome = world.run(other.scenario)
    write_run(tmp_path / "rr", other, outcome, verdict_of(other, outcome))
    assert baseline_of(spec, str(tmp_path / "rr")).ttft_ms == pytest.approx(policy.ttft_ms)
    with pytest.raises(SpecError, match="other requests"):
        baseline_of(make_spec(SMALL, {"seed": 5}), str(tmp_path / "rr"))


def test_an_emulated_run_is_compared_with_the_fluid_model_and_says_so() -> None:
    spec = make_spec({**SMALL, "world": "emulated"}, {})
    assert baseline_of(spec, "cla").name == "cla in the fluid model"
    with pytest.raises(SpecError, match="did you mean round_robin"):
        baseline_of(spec, "round_robbin")
