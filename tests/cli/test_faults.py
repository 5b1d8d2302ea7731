"""`netkv run --faults`: a plan from a file, its rows in the run's folder, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import cli
from experiments.checking import check_folder
from experiments.running import read_table
from testbed import BrokenRunError, TestbedError

RUN = ("run", "--world", "analytic", "--requests", "40", "--set", "workload.speedup=2")
DOWN = {"at_s": 1, "kind": "link_down", "target": "tor0>agg1", "for_s": 2}
KILLED = {"at_s": 2, "kind": "decode_worker_killed", "target": "h2", "for_s": 2}


def netkv(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code and what was said, by the entry point itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["netkv", *arguments])
        patch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    place = tmp_path / "faults.yaml"
    place.write_text(json.dumps([DOWN, KILLED]))
    return place


@pytest.mark.parametrize("retry", [False, True])
def test_a_run_with_faults_has_their_rows_and_is_a_history(tmp_path: Path, plan: Path, retry: bool) -> None:
    out = tmp_path / "run"
    said = CliRunner().invoke(
        cli.app, [*RUN, "--faults", str(plan), "--set", f"serving.retry={retry}", "--out", str(out)]
    )
    assert said.exit_code == 0, said.output
    assert "decode_worker_killed h2 from 2.00 s to 4.00 s: " in said.output
    table = read_table(out, "faults")
    assert table["kind"].tolist() == ["link_down", "decode_worker_killed"]
    assert table["until_s"].tolist() == [3.0, 4.0]
    killed = table.iloc[1]
    lost, again = ("requests_retried", "requests_failed") if retry else ("requests_failed", "requests_retried")
    assert (killed[lost], killed[again]) == (killed["requests_hit"], 0)
    status = read_table(out, "requests").set_index("request_id")["status"]
    assert set(status[status == "failed"].index) == set(killed["failed_ids"])
    manifest = json.loads((out / "manifest.json").read_text())
    assert [row["kind"] for row in manifest["faults"]] == ["link_down", "decode_worker_killed"]
    assert [event["target"] for event in manifest["spec"]["faults"]["events"]] == ["tor0>agg1", "h2"]
    assert list(check_folder(out).values()) == [[]]


def test_a_run_without_faults_has_no_table_of_them(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert CliRunner().invoke(cli.app, [*RUN, "--out", str(out)]).exit_code == 0
    assert not (out / "faults.parquet").exists()
    assert json.loads((out / "manifest.json").read_text())["faults"] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a list of faults was expected, not NoneType"),
        ("word", "a list of faults was expected, not str"),
        ("[1", "not YAML"),
        (
            json.dumps([{**DOWN, "target": "tor0>agg9"}]),
            "faults.events.0.target: link_down cannot hit 'tor0>agg9' (did",
        ),
        (json.dumps([{**DOWN, "kind": "link_dwn"}]), "(did you mean link_down?)"),
        (json.dumps([DOWN, {**DOWN, "at_s": -1}]), "faults.events.1.at_s: Input should be greater than or equal to 0"),
        (json.dumps([{**DOWN, "until_s": 3}]), "faults.events.0.until_s: no such field"),
        (json.dumps([3]), "faults.events.0: Input should be a valid dictionary"),
        (
            json.dumps([{"at_s": 1, "kind": "worker_hung", "target": "h2"}]),
            "faults.events.0.kind: worker_hung: the analytic",
        ),
        (json.dumps([{"at_s": 1, "kind": "machine_paused"}]), "machine_paused needs for_s"),
        (json.dumps([{"at_s": 1, "kind": "machine_paused", "for_s": 1}]), "machine_paused: the analytic world runs on"),
        (json.dumps([{**DOWN, "kind": "link_lossy"}]), "link_lossy: the analytic world has no frames to lose"),
        (json.dumps([{"at_s": 1, "kind": "controller_killed"}]), "telemetry_frozen is the nearest fault there"),
        (
            json.dumps({"random": {"rate": 1, "kinds": ["worker_hung"]}}),
            "faults.random.kinds: worker_hung: the analytic",
        ),
        (json.dumps({"rate": 1}), "faults.rate: no such field"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    place, out = tmp_path / "bad.yaml", tmp_path / "run"
    place.write_text(content)
    code, _, said = netkv(capsys, *RUN, "--faults", str(place), "--out", str(out))
    assert (code, len(said.splitlines())) == (2, 1)
    assert message in said
    assert not out.exists()


def test_a_network_model_without_links_has_no_faults_of_links(
    tmp_path: Path, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    code, _, said = netkv(capsys, *RUN, "--faults", str(plan), "--set", "simulation.network=closed_form", "--out", out)
    assert code == 2
    assert "faults.events.0.kind: link_down needs links and connections" in said


@pytest.mark.parametrize(("kind", "code"), [(TestbedError, 2), (BrokenRunError, 3)])
def test_what_breaks_in_mid_run_has_an_exit_code_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: type[TestbedError], code: int
) -> None:
    def broken() -> None:
        raise kind("the sandbox ended early: out of memory")

    monkeypatch.setattr(cli, "app", broken)
    found, _, said = netkv(capsys, "run")
    assert (found, said) == (code, "netkv: the sandbox ended early: out of memory\n")
