"""`netkv check`: histories that happened hold, and every invariant notices a record that was tampered with."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from experiments.checking import INVARIANTS, check_folder, check_run
from experiments.cli import app
from experiments.running import StoreError
from tests.support.made_runs import spec
from tests.support.paths import ROOT
from tests.support.run_histories import Records, analytic_folder, as_emulated, assert_no_violation
from tests.support.small_sweeps import small_conditions, sweep_in

pytestmark = pytest.mark.xdist_group("checking")
"""On one processor: its runs are made once."""

BUSY = {
    **{"workload__requests": 120, "workload__speedup": 3.0, "workload__max_output_tokens": 100},
    **{"serving__batch_slots": 3, "serving__kv_memory_tokens": 40_000, "simulation__link_sample_s": 1.0},
    "serving__kv_admission": "after_transfer",
}
"""Prompts queue for prefill, requests wait for slots and for memory, and some never fit."""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An analytic run in which every limit binds and nothing but KV is on the links."""
    made = spec(policy="netkv_full", congestion__kind="none", **BUSY)
    return analytic_folder(made, tmp_path_factory.mktemp("busy") / "run")


@pytest.fixture
def records(busy: Path) -> Records:
    return Records.of(busy)


@pytest.fixture(scope="module")
def busy_emulated(busy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with what an emulated one has beside; every invariant holds."""
    made = Records.of(busy)
    as_emulated(made)
    folder = made.write(tmp_path_factory.mktemp("emulated") / "true")
    assert_no_violation(folder)
    return folder


@pytest.mark.parametrize(
    ("policy", "changes"),
    [
        ("netkv_full", {}),
        ("round_robin", {"serving__prefill": "at_once", "serving__placement": "first_rack"}),
        ("ca", {"workload__speedup": 8.0, "serving__transfer": "full", "model__prefill": "table"}),
        ("cla", {"simulation__network": "closed_form", "serving__placement": "racks"}),
        ("netkv_static", {"simulation__spreading": "ideal", "serving__placement": "colocated"}),
        ("netkv_topo_only", {"oracle__source": "static", "serving__stripes": 1, "workload__max_output_tokens": 1}),
        ("power_of_two", {"oracle__source": "exact", "oracle__delay_s": 2.0, "oracle__refresh_s": "never"}),
        ("dynamo_decode", {"fabric__pods": 3, "fabric__aggregations_per_pod": 3, "fabric__cores_per_group": 1}),
        ("netkv_static", {**BUSY, "serving__kv_admission": "before_transfer"}),
        ("netkv_full", {**BUSY, "serving__overlap": 0.9, "serving__kv_admission": "before_transfer"}),
        ("netkv_static", {"serving__overlap": 0.5, "simulation__network": "closed_form"}),
        ("cla_star", {"workload__first_request": 300, "workload__warm_requests": 300}),
    ],
)
def test_what_happened_could_have_happened(policy: str, changes: dict[str, Any], tmp_path: Path) -> None:
    made = spec(policy=policy, **{"workload__requests": 60, "simulation__link_sample_s": 2.0, **changes})
    assert_no_violation(analytic_folder(made, tmp_path / "run"))


def test_limits_bind_in_the_run_that_is_tampered_with(busy: Path, records: Records) -> None:
    assert_no_violation(busy)
    assert records.requests["queue_ms"].max() > 100
    assert records.requests["admission_ms"].max() > 1000
    assert (records.requests["status"] == "rejected").any()
    assert (records.requests["cached_tokens"] > 0).any()


def test_a_run_that_its_policy_ended_is_a_history_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_faults.py").write_text(
        "class Fails:\n"
        "    def select(self, request, candidates, view):\n"
        "        if request.request_id > 20:\n"
        "            raise RuntimeError('enough')\n"
        "        return int(candidates.decode_id[0])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    folder = analytic_folder(spec(policy="their_faults:Fails", workload__requests=40), tmp_path / "run")
    assert set(Records.of(folder).requests["status"]) >= {"failed"}
    assert_no_violation(folder)


def test_caches_that_were_warmed_hold_what_the_manifest_says_and_no_more(tmp_path: Path) -> None:
    made = spec(
        policy="cla",
        workload__requests=60,
        workload__first_request=300,
        workload__warm_requests=300,
        serving__prefix_cache_tokens=2_000_000,
        simulation__link_sample_s=2.0,
    )
    warmed = Records.of(analytic_folder(made, tmp_path / "run"))
    held = warmed.manifest["evidence"]["warm_caches"]["tokens"]
    assert warmed.requests["cached_tokens"].iloc[0] <= held[str(warmed.requests["decode_id"].iloc[0])]
    assert (warmed.requests["cached_tokens"].head(10) > 512).any()
    warmed.manifest["evidence"]["warm_caches"]["tokens"] = dict.fromkeys(held, 0)
    found = {found.invariant for found in check_run(warmed.write(tmp_path / "emptied"))}
    assert found == {"cached_tokens"}


# Tampering: (invariant, what is done to the records)


def completed(records: Records, at: int = -1, column: str = "kv_bytes", least: float = 1) -> int:
    """The row of a completed request with at least so much in a column."""
    rows = records.requests
    found = rows.index[(rows["status"] == "completed") & (rows[column] >= least)]
    return int(found[at])


def drop(table: str, row: int) -> Callable[[Records], None]:
    return lambda records: setattr(records, table, getattr(records, table).drop(index=row))


def double(table: str, row: int) -> Callable[[Records], None]:
    def tamper(records: Records) -> None:
        frame = getattr(records, table)
        setattr(records, table, frame.loc[[*frame.index, frame.index[row]]].reset_index(drop=True))

    return tamper


def changed(column: str, change: Callable[[Any], Any], least: float = 1, of: str = "kv_bytes") -> Any:
    """A column of one completed request, in the request alone."""

    def tamper(records: Records) -> None:
        row = completed(records, column=of, least=least)
        records.put(row, **{column: change(records.requests[column][row])})

    return tamper


def changed_in_both(column: str, change: Callable[[Any], Any]) -> Callable[[Records], None]:
    def tamper(records: Records) -> None:
        row = completed(records)
        records.put_both(row, **{column: change(records.requests[column][row])})

    return tamper


def decided(column: str, change: Callable[[Any], Any], at: int = 7) -> Callable[[Records], None]:
    """A column of a decision alone."""
    return lambda records: records.put(at, "decisions", **{column: change(records.decisions[column].iloc[at])})


def summed(name: str, change: Callable[[Any], Any]) -> Callable[[Records], None]:
    return lambda records: records.summary.update({name: change(records.summary[name])})


def of_link(pattern: str, change: Callable[[Any], Any], column: str = "bytes") -> Callable[[Records], None]:
    """A column of every row of some links."""

    def tamper(records: Records) -> None:
        rows = records.links["link"].str.match(pattern)
        values = records.links[column].astype(object)
        values[rows] = change(values[rows])
        records.links[column] = values.infer_objects()

    return tamper


def a_wrong_role(records: Records) -> None:
    row = completed(records)
    records.put_both(row, decode_id=int(records.requests["prefill_id"][row]))


def cached_before_anything_came(records: Records) -> None:
    records.put_both(0, cached_tokens=512, kv_bytes=int(records.requests["kv_bytes"][0] - 512 * 327_680))


def nobody_waits_for_a_place(records: Records) -> None:
    rows = records.requests
    rows["ttft_ms"] -= rows["admission_ms"]
    rows["admission_ms"] = 0.0


def memory_that_came_first(records: Records) -> None:
    """The run moved KV before it had room for it, and is said to have waited."""
    records.manifest["spec"]["serving"]["kv_admission"] = "before_transfer"


def begun_before_the_prompt_ahead(records: Records) -> None:
    row = completed(records, column="queue_ms", least=100)
    records.put(row, queue_ms=records.requests["queue_ms"][row] - 50)


def a_snapshot_of_another_age(records: Records) -> None:
    records.decisions["snapshot_s"] = records.decisions["decided_s"] - records.decisions["oracle_age_ms"] / 1e3
    records.decisions.loc[3, "snapshot_s"] += 0.01


def a_snapshot_of_the_future(records: Records) -> None:
    row = completed(records)
    records.put_both(row, oracle_age_ms=-5.0)


def of_connection(column: str, change: Callable[[Any], Any]) -> Callable[[Records], None]:
    def tamper(records: Records) -> None:
        assert records.paths is not None
        row = int(records.paths.index[records.paths["tier"] == 3][5])
        records.paths.at[row, column] = change(records.paths[column][row])

    return tamper


def plus_one(value: Any) -> Any:
    return value + 1


def tenth(value: Any) -> Any:
    return value * 0.1


TAMPERED: list[tuple[str, Callable[[Records], None]]] = [
    ("request_ids", drop("requests", 5)),
    ("request_ids", double("requests", 5)),
    ("request_ids", changed("timestamp_s", lambda value: value - 1000)),
    ("request_ids", lambda records: records.manifest["spec"]["workload"].update(requests=100)),
    ("one_end", changed("status", lambda _: "lost")),
    ("one_end", changed("status", lambda _: "failed")),
    ("one_end", changed("error", lambda _: "reset")),
    ("one_end", changed("policy", lambda _: "cla")),
    ("times_known", changed("ttft_ms", lambda _: float("nan"))),
    ("times_known", changed("admission_ms", lambda _: -1.0)),
    ("times_known", changed("tpot_ms", lambda _: float("nan"), of="output_length", least=2)),
    ("times_known", changed("status", lambda _: "rejected")),
    ("one_decision", drop("decisions", 5)),
    ("one_decision", double("decisions", 5)),
    ("one_decision", decided("request_id", lambda _: 5000)),
    ("one_decision", changed("decode_id", lambda _: -1)),
    ("decision_agrees", decided("kv_bytes", plus_one)),
    ("decision_agrees", decided("decode_id", lambda value: value + 4)),
    ("decision_agrees", decided("predicted_kv_transfer_ms", plus_one)),
    ("roles", a_wrong_role),
    ("roles", changed_in_both("decode_id", lambda _: 99)),
    ("tier", changed_in_both("tier", lambda value: (value + 1) % 4)),
    ("cached_tokens", changed_in_both("cached_tokens", lambda _: 10**6)),
    ("cached_tokens", cached_before_anything_came),
    ("kv_bytes", changed_in_both("kv_bytes", plus_one)),
    ("kv_bytes", lambda records: records.manifest["evidence"].update(kv_bytes=1)),
    ("times_in_order", decided("decided_s", lambda value: value - 0.01)),
    ("times_in_order", decided("transfer_started_s", lambda value: value - 0.01)),
    ("times_add_up", decided("transfer_started_s", lambda value: value + 0.01)),
    ("times_add_up", changed("tpot_ms", lambda value: value * 1.01, of="output_length", least=2)),
    ("prefill_time", changed("prefill_ms", lambda value: value * 1.01)),
    ("prefill_queue", begun_before_the_prompt_ahead),
    ("transfer_speed", changed("kv_transfer_ms", tenth)),
    ("decode_steps", changed("ttft_ms", plus_one)),
    ("decode_steps", changed("e2el_ms", tenth, of="output_length", least=50)),
    ("batch_slots", nobody_waits_for_a_place),
    ("kv_memory", nobody_waits_for_a_place),
    ("memory_wait", memory_that_came_first),
    ("kv_memory", memory_that_came_first),
    ("snapshot_age", a_snapshot_of_the_future),
    ("snapshot_age", a_snapshot_of_another_age),
    ("snapshot_age", decided("oracle_age_ms", lambda _: 60_000.0)),
    ("snapshot_age", decided("oracle_age_ms", lambda _: float("nan"))),
    ("link_utilisation", of_link(r"tor0>agg1", lambda _: 1.2, "utilisation")),
    ("link_utilisation", of_link(r"tor0>agg1", lambda _: -0.1, "utilisation")),
    ("link_utilisation", of_link(r"tor0>agg1", lambda _: "tor0>agg9", "link")),
    ("link_bytes", of_link(r"tor0>agg1", lambda value: -value)),
    ("link_bytes", of_link(r"tor0>agg1", lambda value: value * 1000)),
    ("links_carry_kv", of_link(r"h\d+>srv", tenth)),
    ("links_carry_kv", of_link(r"h0>srv", lambda value: value * 1.01)),
    ("summary_counts", summed("completed", plus_one)),
    ("summary_counts", summed("num_prompts", plus_one)),
    ("summary_counts", summed("total_input_tokens", plus_one)),
    ("summary_counts", summed("slo_attainment", tenth)),
    ("summary_counts", summed("duration", tenth)),
    ("summary_means", summed("mean_ttft_ms", lambda value: value * 1.0001)),
    ("summary_means", summed("p99_kv_transfer_ms", plus_one)),
    ("summary_means", summed("mean_itl_ms", lambda value: value * 1.0001)),
    ("summary_means", summed("oracle_mape", lambda _: None)),
]

TAMPERED_EMULATED: list[tuple[str, Callable[[Records], None]]] = [
    ("paths", of_connection("links", lambda links: [*links[:-1], "srv0>h0"])),
    ("paths", of_connection("path", lambda path: (path + 1) % 4)),
    ("paths", of_connection("tier", lambda _: 2)),
    ("paths", of_connection("target", lambda target: (target + 1) % 16)),
    ("paths", of_connection("started_s", plus_one)),
    ("paths_carry_kv", of_connection("bytes", lambda value: value / 2)),
    ("paths_carry_kv", of_connection("source_port", lambda _: 20_002)),
    ("paths_carry_kv", drop("paths", 8)),
    ("paths_carry_kv", of_connection("number", lambda _: 5000)),
    ("wire_bytes", decided("wire_bytes", plus_one)),
    ("wire_bytes", lambda records: records.manifest["evidence"].update(kv_wire_bytes=1)),
    ("times_in_order", decided("decided_s", lambda value: value - 0.01)),
    ("times_add_up", decided("transfer_started_s", lambda value: value + 1.1)),
    ("prefill_queue", begun_before_the_prompt_ahead),
    ("transfer_speed", changed("kv_transfer_ms", tenth, of="kv_transfer_ms", least=100)),
    ("batch_slots", nobody_waits_for_a_place),
    ("kv_memory", nobody_waits_for_a_place),
    ("links_carry_kv", of_link(r"h\d+>srv", tenth)),
]


def names(tampered: list[tuple[str, Callable[[Records], None]]]) -> list[str]:
    return [f"{invariant}-{number}" for number, (invariant, _) in enumerate(tampered)]


@pytest.mark.parametrize(("invariant", "tamper"), TAMPERED, ids=names(TAMPERED))
def test_a_record_that_was_tampered_with_is_named(
    invariant: str, tamper: Callable[[Records], None], records: Records, tmp_path: Path
) -> None:
    tamper(records)
    assert invariant in {found.invariant for found in check_run(records.write(tmp_path / "run"))}


@pytest.mark.parametrize(("invariant", "tamper"), TAMPERED_EMULATED, ids=names(TAMPERED_EMULATED))
def test_a_record_of_an_emulated_run_that_was_tampered_with_is_named(
    invariant: str, tamper: Callable[[Records], None], busy_emulated: Path, tmp_path: Path
) -> None:
    records = Records.of(busy_emulated)
    tamper(records)
    assert invariant in {found.invariant for found in check_run(records.write(tmp_path / "run"))}


@pytest.mark.parametrize(("late_s", "held"), [(1.9, True), (2.1, False)])
def test_a_pause_of_the_machine_excuses_what_is_late_by_no_more(
    late_s: float, held: bool, busy_emulated: Path, tmp_path: Path
) -> None:
    records = Records.of(busy_emulated)
    decided("transfer_started_s", lambda value: value + late_s)(records)
    without = {found.invariant for found in check_run(records.write(tmp_path / "without"))}
    assert "times_add_up" in without
    records.manifest["faults"] = [{"kind": "machine_paused", "target": "machine", "at_s": 1.0, "until_s": 2.0}]
    within = {found.invariant for found in check_run(records.write(tmp_path / "with"))}
    assert ("times_add_up" not in within) == held


def test_an_engine_may_open_fewer_connections_and_cut_a_blob_into_more_writes(
    busy_emulated: Path, tmp_path: Path
) -> None:
    records = Records.of(busy_emulated)
    records.manifest["spec"]["serving"]["engine"] = "mooncake"
    assert records.paths is not None
    number = records.paths["number"].iloc[0]
    mine = records.paths["number"] == number
    records.paths = records.paths[~mine | (records.paths["connection"] > 0)].copy()
    records.paths.loc[mine, "bytes"] *= 4 / 3
    records.decisions.loc[records.decisions["request_id"] == number, "wire_bytes"] += 4 * 24
    records.manifest["evidence"]["kv_wire_bytes"] += 4 * 24
    assert check_run(records.write(tmp_path / "run")) == []
    records.paths = records.paths[records.paths["number"] != number]
    records.decisions.loc[records.decisions["request_id"] == number, "wire_bytes"] += 1
    records.manifest["evidence"]["kv_wire_bytes"] += 1
    assert {"paths_carry_kv", "wire_bytes"} == {one.invariant for one in check_run(records.write(tmp_path / "false"))}


def test_an_emulated_request_without_bytes_may_be_told_before_its_transfer_is_noted(
    records: Records, tmp_path: Path
) -> None:
    rows = records.requests
    row = int(rows.index[rows["status"] == "completed"][0])
    records.put_both(row, cached_tokens=int(rows["input_length"][row]), kv_bytes=0)
    records.put(row, kv_transfer_ms=0.0)
    as_emulated(records)
    noted = records.decisions["request_id"] == row
    records.decisions.loc[noted, "transfer_started_s"] += 100.0
    found = {found.invariant for found in check_run(records.write(tmp_path / "run"))}
    assert found <= {"cached_tokens", "summary_means"}


def test_an_answer_stays_completed_though_its_sender_never_reported(records: Records, tmp_path: Path) -> None:
    as_emulated(records)
    assert records.paths is not None
    row = completed(records)
    records.put(row, kv_transfer_ms=float("nan"), error="the last acknowledgement was lost")
    of_it = records.decisions["request_id"] == row
    records.decisions.loc[of_it, ["transfer_started_s", "wire_bytes"]] = float("nan")
    records.paths = records.paths[records.paths["number"] != row]
    found = {found.invariant for found in check_run(records.write(tmp_path / "run"))}
    assert found <= {"summary_means", "wire_bytes"}  # sums of all transfers
    records.put(row, error="")
    assert "one_end" in {found.invariant for found in check_run(records.write(tmp_path / "silent"))}


def test_every_invariant_is_tampered_with() -> None:
    assert {invariant for invariant, _ in (*TAMPERED, *TAMPERED_EMULATED)} == set(INVARIANTS)


def test_a_violation_names_run_request_invariant_and_both_values(records: Records, tmp_path: Path) -> None:
    row = completed(records)
    expected = int(records.requests["kv_bytes"][row])
    records.put_both(row, kv_bytes=expected + 1)
    records.manifest["evidence"].pop("kv_bytes")
    first, *_ = [found for found in check_run(records.write(tmp_path / "odd")) if found.invariant == "kv_bytes"]
    assert str(first) == f"odd: request {row}: kv_bytes: found kv_bytes {expected + 1:.10g}, expected {expected}"
    assert first.request == row


# Sweeps and the command line


def test_every_run_of_a_sweep_is_checked(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    sweep_in(out, small_conditions(4))
    assert set(check_folder(out)) == {condition.name for condition in small_conditions(4)}
    assert_no_violation(out)
    spoilt = Records.of(out / "runs" / "netkv_full-seed1")
    shutil.rmtree(out / "runs" / "netkv_full-seed1")
    spoilt.summary["completed"] += 1
    spoilt.write(out / "runs" / "netkv_full-seed1")
    assert [run for run, found in check_folder(out).items() if found] == ["netkv_full-seed1"]


def test_the_exit_code_says_whether_every_invariant_holds(busy: Path, records: Records, tmp_path: Path) -> None:
    held = CliRunner().invoke(app, ["check", str(busy)])
    assert (held.exit_code, held.output) == (0, "1 run: every invariant holds\n")
    nobody_waits_for_a_place(records)
    spoilt = records.write(tmp_path / "spoilt")
    said = CliRunner().invoke(app, ["check", str(spoilt)])
    assert said.exit_code == 1
    assert "batch_slots: found" in said.output
    told = CliRunner().invoke(app, ["check", str(spoilt), "--json"])
    assert told.exit_code == 1
    report = json.loads(told.output)
    assert report["runs"] == ["spoilt"]
    assert report["invariants"] == list(INVARIANTS)
    assert {"run", "request", "subject", "invariant", "found", "expected"} == set(report["violations"][0])
    assert f"1 run: {len(report['violations'])} violations" in said.output


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "neither a run folder"),
        (lambda folder: (folder / "requests.parquet").write_text("no"), "requests.parquet: "),
        (lambda folder: (folder / "summary.json").write_text("{"), "summary.json is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json is damaged: spec is missing"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(
    damage: Callable[[Path], None], complaint: str, records: Records, tmp_path: Path
) -> None:
    folder = records.write(tmp_path / "run")
    damage(folder)
    with pytest.raises(StoreError, match=re.escape(complaint)):
        check_folder(folder)


def test_a_specification_of_another_version_is_refused(records: Records, tmp_path: Path) -> None:
    del records.manifest["spec"]["serving"]["prefill"]
    with pytest.raises(StoreError, match=r"spec: serving\.prefill is missing; of another version"):
        check_folder(records.write(tmp_path / "run"))


def test_a_table_without_a_column_is_refused(records: Records, tmp_path: Path) -> None:
    records.requests = records.requests.drop(columns="ttft_ms")
    with pytest.raises(StoreError, match=r"requests\.parquet is damaged: no column ttft_ms"):
        check_folder(records.write(tmp_path / "run"))


def test_the_page_of_invariants_lists_every_one_in_order() -> None:
    page = (ROOT / "docs" / "reference" / "invariants.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(INVARIANTS)
    assert all(holds.__doc__ for holds in INVARIANTS.values())
