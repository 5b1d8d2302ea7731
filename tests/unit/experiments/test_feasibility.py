"""Whether a specification fits a machine: load over capacity, proposals that fit, files that are no calibration."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.planning.feasibility import DOUBTFUL, FITS, Load, assess_feasibility, predict_load
from experiments.planning.run_plan import LEAST_FRAMES, plan_run
from experiments.running.errors import SpecError
from experiments.running.run_spec import RunSpec, make_spec
from scenario import load_requests
from testbed.capacity import Capacity
from tests.support.staleness_set_up import set_up_of

MACHINE = Capacity(
    datapath="user",
    rack_bps=300e6,
    across_bps=200e6,
    switched_per_s=200e3,
    busy_cpus=0.4,
    cpus=2,
    bringup_s=3.4,
    hosts=8,
    switches=9,
)
OF_IT = ("--set", "emulation.datapath=user")
LOAD = Load(busy_Bps=200e9, mean_Bps=100e9, path_bps=200e9, seconds=30.0)


def spec(**emulation: float) -> RunSpec:
    return make_spec({}, {"emulation.datapath": "user", **{f"emulation.{name}": n for name, n in emulation.items()}})


def test_the_load_is_frames_at_every_switch_acknowledgements_included() -> None:
    found = assess_feasibility(spec(rate_scale=2500), LOAD, MACHINE)
    assert found["busy_switched_per_s"] == pytest.approx(200e9 / 2500 / 1448 * 1.5)
    assert found["mean_switched_per_s"] == pytest.approx(found["busy_switched_per_s"] / 2)
    assert found["uses"]["switches"] == pytest.approx(found["busy_switched_per_s"] / 200e3)
    assert found["uses"]["idle_path"] == pytest.approx(80e6 / 300e6)


def test_scale_and_dilation_lighten_the_load_alike() -> None:
    fast, scaled, dilated = (assess_feasibility(spec(**how), LOAD, MACHINE) for how in (
        {"rate_scale": 1000}, {"rate_scale": 4000}, {"rate_scale": 1000, "time_dilation": 4}
    ))  # fmt: skip
    assert scaled["uses"] == dilated["uses"]
    assert fast["margin"] == pytest.approx(scaled["margin"] / 4)
    assert (scaled["run_s"], dilated["run_s"]) == (30.0, 120.0)


@pytest.mark.parametrize(
    ("share", "found"), [(FITS * 0.99, "fits"), (FITS * 1.01, "doubtful"), (DOUBTFUL * 1.01, "does not fit")]
)
@pytest.mark.parametrize("binding", ["idle_path", "switches"])
def test_what_binds_more_decides(binding: str, share: float, found: str) -> None:
    given = spec(rate_scale=1000)
    path_bps = share * 300e6 * 1000 if binding == "idle_path" else 1.0
    busy_Bps = share * 200e3 * 1448 / 1.5 * 1000 if binding == "switches" else 1.0
    answer = assess_feasibility(given, replace(LOAD, path_bps=path_bps, busy_Bps=busy_Bps), MACHINE)
    assert (answer["prediction"], answer["binding"]) == (found, binding)


@pytest.mark.parametrize("rate_scale", [50, 500, 2500, 40_000])
def test_both_proposals_fit_and_little_less_does_not(rate_scale: float) -> None:
    proposals = assess_feasibility(spec(rate_scale=rate_scale), LOAD, MACHINE)["proposals"]
    least = proposals["rate_scale"]
    assert assess_feasibility(spec(rate_scale=least), LOAD, MACHINE)["prediction"] == "fits"
    assert assess_feasibility(spec(rate_scale=least * 0.85), LOAD, MACHINE)["prediction"] != "fits"
    stretched = spec(rate_scale=rate_scale, time_dilation=proposals["time_dilation"])
    assert assess_feasibility(stretched, LOAD, MACHINE)["prediction"] == "fits"
    assert proposals["time_dilation"] >= 1


def test_the_predicted_load_is_what_crosses_the_switches() -> None:
    """One transfer in a rack, alone: its bytes pass three switches."""
    alone = make_spec({}, {"workload.requests": 1, "congestion.kind": "none", "policy": "netkv_topo_only"})
    load = predict_load(alone)
    assert load.path_bps == alone.fabric.nic_rate_bps
    moved_bytes = load_requests(alone.scenario)[0].input_length * alone.model.kv_bytes_per_token
    assert load.mean_Bps * load.seconds == pytest.approx(3 * moved_bytes, rel=0.15)  # the last window is not whole
    assert 0 <= load.busy_Bps <= 3 * alone.fabric.nic_rate_bps / 8


def test_plan_answers_from_a_file_without_root(tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    file.write_text(json.dumps(asdict(MACHINE)))
    arguments = ["plan", "--requests", "10", *OF_IT, "--calibration", str(file)]
    told = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(told.stdout)["feasibility"]["prediction"] in ("fits", "doubtful", "does not fit")
    in_words = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert "prediction: " in in_words
    assert "beside no other work" not in in_words


def test_a_calibration_beside_other_work_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    file.write_text(json.dumps(asdict(replace(MACHINE, busy_cpus=1.9))))
    arguments = ["plan", "--requests", "10", *OF_IT, "--calibration", str(file)]
    told = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert "1.9 of 2 processors were busy with other things" in told


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "not a calibration; `netkv plan --calibrate` makes one"),
        ("no JSON", "makes one"),
        (json.dumps({**asdict(MACHINE), "rack_bps": 0}), "rack_bps is 0"),
        (json.dumps({**asdict(MACHINE), "datapath": "fast"}), "datapath is 'fast'"),
        (json.dumps({**asdict(MACHINE), "datapath": "afxdp"}), "measured with datapath=afxdp, and the specification"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_calibration_is_one_line(tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "machine.json"
    if content is not None:
        file.write_text(content)
    done = CliRunner().invoke(app, ["plan", "--requests", "5", *OF_IT, "--calibration", str(file)])
    assert isinstance(done.exception, SpecError)
    assert words in str(done.exception)
    assert len(str(done.exception).splitlines()) == 1


def test_ports_of_afxdp_are_counted_with_their_memory() -> None:
    slow, fast = (plan_run(make_spec({}, {"emulation.datapath": name}))["ports"] for name in ("user", "afxdp"))
    assert slow == {"datapath": "user", "count": 64, "memory_bytes": 0}
    assert fast == {"datapath": "afxdp", "count": 64, "memory_bytes": 64 * 75_000_000}


def test_ports_beyond_this_machines_memory_are_warned_of() -> None:
    large = {"emulation.datapath": "afxdp", "fabric.pods": 200, "workload.requests": 2}
    (warning,) = plan_run(make_spec({}, large))["warnings"]
    assert warning.startswith("this machine cannot run it on emulation.datapath=afxdp: ")
    assert warning.endswith("; use emulation.datapath=user")


def test_only_userspace_switches_have_a_load_that_is_known_to_be_easy() -> None:
    said = {
        datapath: plan_run(make_spec({"emulation": {"datapath": datapath, "rate_scale": 200.0}}, {}))["warnings"]
        for datapath in ("user", "kernel")
    }
    assert "Mbit/s of KV is beyond the 150 that a userspace datapath carries" in said["user"][0]
    assert said["kernel"] == []


def test_the_smallest_blobs_are_counted_in_frames_with_what_would_make_them_enough() -> None:
    """1,000 tokens of 327,680 B over 5,000 are 65,536 B: 45 frames of 1,448 B, 64 at a scale of 3,536."""
    given = {"workload.mean_input_tokens": 1000, "workload.input_spread": 0, "emulation.rate_scale": 5000}
    found = plan_run(make_spec({}, given))["workload"]
    assert found["tenth_blob_frames"] == pytest.approx(45.26, abs=0.01)
    assert found["rate_scale_for_frames"] == pytest.approx(3536, abs=1)
    assert found["time_dilation_for_frames"] == pytest.approx(5000 / 3536, abs=0.001)
    again = {"emulation.rate_scale": 3536, "emulation.time_dilation": 1.414}
    assert plan_run(make_spec({}, {**given, **again}))["workload"]["tenth_blob_frames"] == pytest.approx(64, abs=0.1)
    settings = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    said = " ".join(CliRunner().invoke(app, ["plan", "--requests", "5", *settings]).stdout.split())
    assert "are of 45 frames or fewer: emulation.rate_scale=3536 gives them 64" in said
    enough = CliRunner().invoke(app, ["plan", "--requests", "5", *settings, "--set", "emulation.rate_scale=2000"])
    assert "are of 113 frames or fewer\n" in enough.stdout.replace(" \n", "\n")


def test_nine_blobs_in_ten_of_the_main_job_have_enough_frames() -> None:
    spec = make_spec({}, set_up_of("quick"))
    assert plan_run(spec)["workload"]["tenth_blob_frames"] >= LEAST_FRAMES
