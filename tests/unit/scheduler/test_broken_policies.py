"""A user's policy that breaks its contract during a run: one error that names it, and the record of what was before."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.running.errors import SpecError
from experiments.running.run_spec import make_spec
from scheduler import PolicyError
from scheduler.policy import new_policy
from scheduler.time_limit import TimeLimitPassed, time_limit

POLICIES = """
import time
from scheduler import RejectedError

class Nearest:
    def __init__(self, tolerance=0.0):
        self.tolerance = tolerance
    def select(self, request, candidates, view):
        if request.request_id == 20:
            self.misbehave()
        return candidates.best(candidates.tier)
    def misbehave(self):
        pass

class Raises(Nearest):
    def misbehave(self):
        raise KeyError("rack")

class Exits(Nearest):
    def misbehave(self):
        raise SystemExit(3)

class Sleeps(Nearest):
    def misbehave(self):
        time.sleep(60)

class Spins(Nearest):
    def misbehave(self):
        while True:
            try:
                time.sleep(0)
            except BaseException:
                raise

class Unknown(Nearest):
    def select(self, request, candidates, view):
        return 99 if request.request_id == 20 else super().select(request, candidates, view)

class ReadsAfterAll(Nearest):
    reads_telemetry = False
    def select(self, request, candidates, view):
        if request.request_id == 20:
            view.available_Bps(candidates)
        return super().select(request, candidates, view)

class TurnsAway(Nearest):
    def misbehave(self):
        raise RejectedError("not on a Sunday")

class CannotBeMade:
    def __init__(self):
        raise OSError("no such table")
    def select(self, request, candidates, view):
        return 2
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "policies_that_break.py").write_text(POLICIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "policies_that_break"


def run(policy: str, out: Path) -> int:
    arguments = ["run", "--world", "analytic", "--policy", policy, "--requests", "40", "--out", str(out)]
    return CliRunner().invoke(app, [*arguments, "--set", "policy_limit_s=0.2"]).exit_code


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("Raises", "failed on request 20: KeyError: 'rack'"),
        ("Exits", "failed on request 20: SystemExit: 3"),
        ("Sleeps", "took longer than 0.2 s on request 20"),
        ("Spins", "took longer than 0.2 s on request 20"),
        ("Unknown", "chose 99 for request 20: no such decode instance"),
        (
            "ReadsAfterAll",
            "read telemetry for request 20, although its class says `reads_telemetry = False`",
        ),
    ],
)
def test_the_run_ends_with_one_error_and_keeps_what_was_decided(
    users: str, tmp_path: Path, name: str, complaint: str
) -> None:
    out = tmp_path / "run"
    assert run(f"{users}:{name}", out) == 1
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["verdict"] == "invalid"
    assert manifest["verdict_reasons"] == [f"policy {users}:{name} {complaint}"]
    requests = pd.read_parquet(out / "requests.parquet").set_index("request_id")
    decisions = pd.read_parquet(out / "decisions.parquet")
    assert len(decisions) > 5
    assert (requests.loc[decisions["request_id"], "decode_id"] >= 0).all()
    assert requests.loc[20, "error"] == f"policy {users}:{name} {complaint}"
    assert set(requests["status"]) == {"completed", "failed"}
    assert (requests.loc[requests["status"] == "failed", "error"] != "").all()


def test_a_policy_may_turn_a_request_away(users: str, tmp_path: Path) -> None:
    assert run(f"{users}:TurnsAway", tmp_path / "run") == 0
    requests = pd.read_parquet(tmp_path / "run" / "requests.parquet").set_index("request_id")
    assert requests.loc[20, ["status", "error"]].tolist() == ["rejected", "not on a Sunday"]
    assert (requests.drop(20)["status"] == "completed").all()


def insist_on_sleeping(times: list[float]) -> None:
    """Sleep through two alarms."""
    while True:
        times.append(time.monotonic())
        try:
            time.sleep(10)
        except BaseException:
            if len(times) == 3:
                raise


def test_an_alarm_that_is_swallowed_comes_again() -> None:
    times: list[float] = []
    with time_limit(0.05), pytest.raises(TimeLimitPassed):
        insist_on_sleeping(times)
    assert len(times) == 3


def test_whoever_had_the_timer_gets_it_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    left_s = signal.getitimer(signal.ITIMER_REAL)[0]
    with time_limit(5):
        pass
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(left_s, abs=1)


def test_a_policy_that_cannot_be_made_is_named(users: str) -> None:
    with pytest.raises(PolicyError, match="policies_that_break:CannotBeMade: cannot be made: OSError: no such table"):
        new_policy(f"{users}:CannotBeMade")


def test_parameters_reach_a_users_own_policy_too(users: str) -> None:
    name = f"{users}:Nearest"
    spec = make_spec({}, {"policy": name, f"policy_parameters.{name}.tolerance": 0.5})
    assert spec.policy_parameters == {name: {"tolerance": 0.5}}
    assert new_policy(name, {"tolerance": 0.5}).tolerance == 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"policy_parameters.cla_star.prefx": 1},
            "policy_parameters: cla_star: no parameter 'prefx' (it has prefix, q",
        ),
        ({"policy_parameters.round_robin.x": 1}, "policy_parameters: round_robin: no parameter 'x' (it has none)"),
        ({"policy_parameters.cla_start.prefix": 1}, "policy: 'cla_start' is not one of"),
        ({"policy_parameters.cla_star.prefix": "much"}, "policy_parameters.cla_star.prefix: Input should be a valid"),
        (
            {"policy_parameters.cla_star.prefix": float("nan")},
            "policy_parameters.cla_star.prefix: Input should be a fi",
        ),
        ({"policy_limit_s": 0}, "policy_limit_s: Input should be greater than 0"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(SpecError) as caught:
        make_spec({}, changes)
    assert str(caught.value).startswith(complaint)
