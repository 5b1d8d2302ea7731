"""What an emulation is by default on this machine, and what it asks of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from experiments.planning import machine_check as doctor
from experiments.running.errors import SpecError
from experiments.running.run_spec import make_spec
from testbed import kernel
from testbed.emulated_world import silence
from testbed.emulation import EmulationSpec
from testbed.errors import TestbedError
from testbed.fabric_up import PACED_SETTINGS, host_settings, route_options
from testbed.kernel import Feature, check_kernel
from tests.support.fidelity_cells import spec_of


@pytest.mark.parametrize(
    ("loaded", "datapath", "nic_bps", "burst_ms"), [(False, "afxdp", 40e6, 1.0), (True, "kernel", 1e9, 2.0)]
)
def test_the_datapath_and_with_it_the_rates_are_what_the_machine_has(
    machine: Path, loaded: bool, datapath: str, nic_bps: float, burst_ms: float
) -> None:
    if loaded:
        (machine / "openvswitch").touch()
    for spec in (EmulationSpec(), EmulationSpec.model_validate({"datapath": "auto", "rate_scale": "auto"})):
        assert spec.datapath == datapath
        assert 200e9 / spec.link_divisor == nic_bps
        assert spec.burst_ms == burst_ms
    assert EmulationSpec.model_validate(EmulationSpec().model_dump(mode="json")) == EmulationSpec()


def test_the_best_cell_of_the_study_is_the_default(machine: Path) -> None:
    best, default = spec_of("best", 0), make_spec({}, {})
    assert (best.emulation, best.serving) == (default.emulation, default.serving)


def test_what_is_asked_for_is_not_second_guessed() -> None:
    assert EmulationSpec(datapath="kernel", rate_scale=2500.0).link_divisor == 2500
    assert EmulationSpec(datapath="kernel", time_dilation=2.0).link_divisor == 400
    assert EmulationSpec(datapath="user", time_dilation=2.0).link_divisor == 10_000


def test_a_datapath_that_there_is_not_is_one_complaint_not_two() -> None:
    with pytest.raises(SpecError, match=r"^emulation\.datapath: .* \(got 'foo'\)$"):
        make_spec({}, {"emulation.datapath": "foo"})


def test_a_deadline_is_dilated_like_everything_else() -> None:
    assert EmulationSpec(datapath="user", run_deadline_s=30.0, time_dilation=4.0).deadline_s == 120.0


def test_a_delay_is_given_or_the_fabrics_own() -> None:
    assert EmulationSpec().link_delay_s(1e-6) == 0
    assert EmulationSpec(link_delay_ms=2.5, time_dilation=10.0).link_delay_s(1e-6) == 2.5e-3
    assert EmulationSpec(hop_latency=True, time_dilation=10.0).link_delay_s(1e-6) == pytest.approx(1e-5)


def test_a_hosts_own_queue_is_linuxs_unless_asked_for() -> None:
    assert not [setting for setting in host_settings(EmulationSpec()) if "limit_output" in setting]
    assert set(PACED_SETTINGS) <= set(host_settings(EmulationSpec()))
    assert not set(PACED_SETTINGS) & set(host_settings(EmulationSpec(paced=False)))
    assert host_settings(EmulationSpec(limit_output_bytes=3028))[-1] == "net.ipv4.tcp_limit_output_bytes=3028"


def test_every_field_is_described() -> None:
    undescribed = [name for name, field in EmulationSpec.model_fields.items() if not field.description]
    assert undescribed == []


def test_dctcp_needs_marks() -> None:
    with pytest.raises(ValidationError, match="dctcp reacts to ECN marks: it needs queue=ecn"):
        EmulationSpec(congestion_control="dctcp")
    assert "congctl dctcp features ecn" in " ".join(
        route_options(EmulationSpec(congestion_control="dctcp", queue="ecn"))
    )
    assert route_options(EmulationSpec()) == ["rto_min", "100ms", "initcwnd", "10"]


@pytest.mark.parametrize(
    ("asked", "field", "module"),
    [
        ({"datapath": "kernel"}, "datapath=kernel", "openvswitch"),
        ({"link_delay_ms": 1.0}, "link_delay_ms", "sch_netem"),
        ({"hop_latency": True}, "link_delay_ms", "sch_netem"),
        ({"queue": "red"}, "queue=red or ecn", "sch_red"),
        ({"queue": "ecn"}, "queue=red or ecn", "sch_red"),
        ({"queue": "fair"}, "queue=fair", "cls_bpf"),
        ({"congestion_control": "bbr"}, "congestion_control=bbr", "tcp_bbr"),
    ],
)
def test_what_the_kernel_lacks_is_one_line_that_names_field_and_module(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, object], field: str, module: str
) -> None:
    absent = tuple(Feature(one.module, one.field, one.needed_by, lambda: False) for one in kernel.FEATURES)
    monkeypatch.setattr(kernel, "FEATURES", absent)
    modest = {"datapath": "user", "queue": "fifo"}
    check_kernel(EmulationSpec.model_validate(modest))
    with pytest.raises(TestbedError) as told:
        check_kernel(EmulationSpec.model_validate({**modest, **asked}))
    assert str(told.value).startswith(f"emulation.{field}: this kernel has no module {module}, or it is not loaded")
    assert "\n" not in str(told.value)


def test_the_doctor_misses_what_the_defaults_ask_for_and_only_that(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    absent = tuple(Feature(one.module, one.field, one.needed_by, lambda: False) for one in kernel.FEATURES)
    monkeypatch.setattr(doctor, "FEATURES", absent)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(doctor, "sandbox_lacks", lambda: "")
    found = {one.name: one for one in doctor.examine() if one.name.startswith("kernel: ")}
    missing = found.pop("kernel: cls_bpf")
    assert (missing.ok, missing.found, missing.remedy) == (False, "absent: no queue=fair", "modprobe cls_bpf")
    assert len(found) == len(absent) - 1
    assert [one.name for one in found.values() if not one.ok] == []
    netem = found["kernel: sch_netem"]
    assert (netem.found, netem.absent) == ("absent, needed only for link_delay_ms", True)


def test_where_root_may_make_no_namespaces_the_doctor_blames_no_module(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    """They are tried in a namespace."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(doctor, "sandbox_lacks", lambda: "unshare: Operation not permitted")
    found = {one.name: one for one in doctor.examine()}
    assert not [name for name in found if name.startswith("kernel: ")]
    assert not found["namespaces"].ok
    assert "privileged" in found["namespaces"].remedy


def test_a_feature_that_is_there_is_not_complained_about() -> None:
    """Cubic and pfifo need no module anywhere; reno is compiled into every kernel."""
    check_kernel(EmulationSpec(datapath="user", congestion_control="reno"))


def test_a_sandbox_that_is_silent_is_told_with_its_last_line_and_the_machines_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("os.getloadavg", lambda: (15.6, 1.0, 1.0))
    assert silence(90, []) == (
        "the sandbox did not answer for 90 s; 16 processes want 2 processors: run it when the machine is idle"
    )
    monkeypatch.setattr("os.getloadavg", lambda: (2.0, 9.0, 9.0))
    assert silence(90, ["first", "last"]) == "the sandbox did not answer for 90 s; its last message: last"
