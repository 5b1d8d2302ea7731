"""The report as a file: what it holds, that it is whole, and that nothing a user wrote is markup in it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from experiments.cli import app
from experiments.report.collect import collect
from experiments.report.evidence_section import PROBES, probe_rows, readings
from experiments.report.page import content_policy, embedded
from experiments.report.rerun import again
from experiments.report.scenes import MOST_CELLS, WINDOW_S, scenes
from experiments.report.typesetting import prose, run_label
from experiments.report.world_comparison import compare_runs
from experiments.running.errors import StoreError
from experiments.running.run_spec import make_spec, parse_settings
from experiments.running.store import write_run
from experiments.running.worlds import open_world
from simulator.path_choice import TRANSFER, PathChoice
from tests.support.report_folders import (
    ATTACK,
    SLOWER,
    MadeReport,
    made_report,
    staleness_conditions,
    write_sweep,
)

pytestmark = pytest.mark.xdist_group("report")

LARGEST_B = 8e6


class Page(HTMLParser):
    """The page as a browser's parser sees it: tags, the text of each script, and what would be loaded."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.policy = ""
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.loads += [given[name] or "" for name in ("src", "srcset", "data", "poster") if name in given]
        if tag in ("link", "use", "image"):
            self.loads.append(given.get("href") or "")
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data
        else:
            self.text += data

    @property
    def data(self) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = json.loads(self.scripts[0])
        return found


def parsed(report: MadeReport) -> tuple[Page, dict[str, object], str]:
    text = report.page.read_text(encoding="utf-8")
    return Page(text), report.said, text


@pytest.fixture(scope="module")
def page(report: MadeReport) -> tuple[Page, dict[str, object], str]:
    return parsed(report)


def test_one_file_holds_every_section_and_loads_nothing(page: tuple[Page, dict[str, object], str]) -> None:
    found, said, text = page
    assert {"answer", "claims", "figures", "fabric", "fidelity", "worlds", "again"} <= set(found.ids)
    assert found.loads == ["data:,"]  # the empty icon, so that no browser asks for one
    assert {tag for tag in ("iframe", "object", "embed", "base") if tag in found.tags} == set()
    assert len(text.encode()) == said["bytes"] < LARGEST_B
    assert "default-src 'none'" in found.policy
    assert all(part in found.policy for part in re.findall(r"'sha256-[^']+'", content_policy(found.scripts[1:])))
    assert len(found.scripts) == 4  # the data, Plotly, the charts, the fabric
    assert len(found.ids) == len(set(found.ids))


def test_it_answers_in_three_sentences_and_judges_every_claim_in_both_worlds(
    page: tuple[Page, dict[str, object], str],
) -> None:
    _, said, text = page
    answer = text[text.index('<div class="answer">') : text.index('id="claims"')]
    assert answer.count("<p>") == 3
    assert "in the emulated world" in answer.lower()
    assert said["claims"] == 8
    assert text.count('data-world="The emulated world"') == text.count('data-world="The analytic world"') == 8
    assert said["replayed"] == 4


def test_it_draws_the_figure_of_every_world_with_its_numbers_behind_it(
    page: tuple[Page, dict[str, object], str],
) -> None:
    found, said, _ = page
    assert said["figures"] == [
        "staleness-0-0", "staleness-0-1", "staleness-0-prediction_error", "evidence", "replay", "ranking",
    ]  # fmt: skip
    figure = found.data["figures"]["staleness-0-0"]
    assert isinstance(figure, dict)
    assert [panel["title"] for panel in figure["panels"]] == [
        "Mean time to first token (ms)", "Mean time between tokens (ms)", "Requests within their SLO (%)",
    ]  # fmt: skip
    assert {trace["meta"] for trace in figure["panels"][0]["data"]} == {"round_robin", "netkv_static", "netkv_full"}
    assert figure["csv"].startswith("world,workload,congestion,policy,refresh_s")
    assert figure["csv"].count("\n") == 1 + 4


def test_a_scene_shows_the_same_requests_under_every_policy(results: Path) -> None:
    (scene,) = scenes(collect(results))
    assert {run["policy"] for run in scene["runs"]} == {"round_robin", "netkv_static", "netkv_full"}
    assert {run["world"] for run in scene["runs"]} == {"emulated", "analytic"}
    names = [f"{source}>{target}" for source, target, _ in scene["links"]]
    for run in scene["runs"]:
        assert run["transfers"]
        assert all(len(row) == 2 * len(names) for row in run["levels"])
        for transfer in run["transfers"]:
            for way in transfer["ways"]:
                crossed = [names[link].split(">") for link in way["links"]]
                assert crossed[0][0] == transfer["from"]
                assert crossed[-1][1] == transfer["to"]
                assert all(one[1] == other[0] for one, other in pairwise(crossed))


def test_the_analytic_paths_are_those_that_the_simulator_dealt(results: Path) -> None:
    """The folder's emulated runs were put on the paths of the simulator, so both worlds must tell the same ones."""
    (scene,) = scenes(collect(results))
    emulated, analytic = (
        next(run for run in scene["runs"] if run["world"] == world and run["policy"] == "round_robin")
        for world in ("emulated", "analytic")
    )
    told, dealt = (
        {t["id"]: [way["links"] for way in t["ways"]] for t in run["transfers"]} for run in (emulated, analytic)
    )
    assert told == dealt
    assert "as the switches report it" in emulated["about"]
    assert "drawn again" in analytic["about"]


def test_the_paths_of_kept_connections_are_those_that_the_simulator_dealt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several transfers of a pair at once take several bundles, and the lowest idle one first."""
    loaded = {"workload.requests": 40, "workload.speedup": 20.0, "fabric.pods": 1, "serving.connections": "persistent"}
    spec = make_spec({"world": "analytic"}, {**loaded, "policy": "round_robin"})
    dealt: list[list[tuple[int, int]]] = []

    class Spied(PathChoice):
        def deal(self, owner: int, number: int, connections: int, paths: int) -> list[tuple[int, int]]:
            found = super().deal(owner, number, connections, paths)
            if owner == TRANSFER:
                dealt.append(found)
            return found

    with monkeypatch.context() as spying, open_world(spec) as world:
        spying.setattr("simulator.analytic_world.PathChoice", Spied)
        write_run(tmp_path / "run", spec, world.run(spec.scenario), {"verdict": "valid", "reasons": []})
    ((run,),) = (scene["runs"] for scene in scenes(collect(tmp_path)))
    fabric, _ = spec.build()
    told = []
    for transfer in run["transfers"]:
        paths = fabric.paths(int(transfer["from"][1:]), int(transfer["to"][1:]))
        told.append([(paths.index(tuple(way["links"])), way["stripes"]) for way in transfer["ways"]])
    assert told == dealt
    assert len(told) == 40


def test_what_a_scene_says_of_a_link_is_its_utilisation(results: Path) -> None:
    (scene,) = scenes(collect(results))
    run = next(run for run in scene["runs"] if run["world"] == "emulated")
    folder = next(run.folder for sweep in collect(results) for run in sweep.runs if run.spec.world == "emulated")
    links = pd.read_parquet(folder / "links.parquet")
    samples = [links[links["time_s"] == at].set_index("link")["utilisation"] for at in sorted(links["time_s"].unique())]
    names = [f"{source}>{target}" for source, target, _ in scene["links"]]
    shown = [[int(at[2 * place : 2 * place + 2], 16) for place in range(len(names))] for at in run["levels"]]
    assert shown == [(100 * sample[names]).round().astype(int).tolist() for sample in samples]
    assert max(map(max, shown)) > 0


def test_a_scene_is_bounded_in_time_and_samples() -> None:
    from experiments.report.scenes import _samples  # what a run of hours would be cut to

    spec = make_spec({"world": "analytic"}, {})
    fabric, _ = spec.build()
    times_s = np.repeat(np.arange(0, 300, 0.05), len(fabric.links))
    names = [link.name for link in fabric.links] * 6000
    table = pd.DataFrame({"time_s": times_s, "link": names, "utilisation": 0.5})
    shown_s, levels, bin_size = _samples(table, fabric)
    assert shown_s.max() <= WINDOW_S
    assert len(levels) * len(fabric.links) <= MOST_CELLS
    assert bin_size == 5
    assert set(levels) == {"32" * len(fabric.links)}


def test_replayed_runs_show_the_error_that_was_put_in(results: Path) -> None:
    comparison = compare_runs([run for sweep in collect(results) for run in sweep.runs])
    assert comparison is not None
    models = {model["model"]: model for model in comparison.report["models"]}
    assert (comparison.replayed, comparison.of) == (4, 4)
    assert models["fluid_paths"]["median_error"] >= SLOWER - 1
    assert [ranking["policies"] for ranking in comparison.report["independent"]["rankings"]]


def test_every_gain_is_shown_three_ways_and_all_time_by_policy_and_tier(
    results: Path, page: tuple[Page, dict[str, object], str]
) -> None:
    comparison = compare_runs([run for sweep in collect(results) for run in sweep.runs])
    assert comparison is not None
    text = page[2].replace("−", "-")
    begin, middle, end = (text.index(part) for part in ("own error?", "do all transfers together", 'id="again"'))
    gains, totals = text[begin:middle], text[middle:end]
    assert re.findall(r'<th scope="row">(.*?)</th>', gains) == ["netkv_static", "netkv_full, 0.1 s", "netkv_full, 1 s"]
    shown = [
        [float(found) for found in re.findall(rf'data-name="{name}">([-+.0-9]*)', gains)]
        for name in ("Emulated", "Fluid, same decisions", "Fluid, own decisions", "Bias, points")
    ]
    assert shown[0] == pytest.approx([gain["emulated"]["percent"] for gain in comparison.report["gains"]], abs=0.051)
    assert shown[2] == pytest.approx(
        [gain["own_decisions"]["percent"] for gain in comparison.report["gains"]], abs=0.051
    )
    assert shown[3] == pytest.approx([one - other for one, other in zip(*shown[:2], strict=True)], abs=0.11)
    replay = comparison.report["replay"]
    named = [*replay["by_policy"], *(f"tier {tier}" for tier in replay["by_tier"])]
    assert re.findall(r'<th scope="row">(.*?)</th>', totals) == named
    found = [*replay["by_policy"].values(), *replay["by_tier"].values()]
    longer = [float(said) for said in re.findall(r'data-name="Time in all">([-+.0-9]*)', totals)]
    assert longer == pytest.approx([100 * one["total_error"] for one in found], abs=0.051)


def test_every_probe_is_shown_as_a_share_of_its_limit(results: Path) -> None:
    runs = [run for sweep in collect(results) for run in sweep.runs]
    rows = {row["probe"].name: row for row in probe_rows(readings(runs))}
    assert set(rows) == {probe.name for probe in PROBES}
    assert rows["Switch wait"]["worst"].used == pytest.approx(0.1 / 0.08)
    assert rows["Calibration"]["worst"].used == pytest.approx(0.04 / 0.15)
    assert rows["Overshoot"]["worst"].used == 0
    assert rows["Round trip"]["worst"].used == pytest.approx(0.1)
    assert rows["Telemetry"]["worst"].used == pytest.approx(0.04)
    assert rows["Background"]["worst"].used == pytest.approx(0.2)
    assert rows["Losses"]["worst"].value == pytest.approx(400 / (32 * 20 + 100))
    assert rows["Retransmissions"]["worst"].used == pytest.approx(100 / (0.25 * 500 + 100))
    assert rows["Squeezes"]["worst"].used == pytest.approx(0.5)
    assert rows["Timers"]["worst"].text == "2.0 ms"
    assert rows["Conservation"]["worst"].value == pytest.approx(1.02)
    assert all(row["runs"] == 4 for row in rows.values())


def test_the_commands_make_the_very_specifications_again(results: Path) -> None:
    (sweep,) = collect(results)
    found = again(sweep)
    assert set(found.differs) == {"policy", "oracle.refresh_s", "world"}
    for run, command in zip(sweep.runs, found.commands, strict=True):
        words = shlex.split(command)
        assert words[:3] == ["netkv", "run", "spec.yaml"]
        settings = [word for before, word in pairwise(words) if before == "--set"]
        assert make_spec(yaml.safe_load(found.spec), parse_settings(settings)) == run.spec


def test_a_single_run_is_a_report_too_and_says_what_it_lacks(results: Path, tmp_path: Path) -> None:
    run = next(run for sweep in collect(results) for run in sweep.runs if run.spec.world == "analytic")
    found, said, text = parsed(made_report(run.folder))
    (run.folder.parent / f"{run.folder.name}.html").unlink()
    assert said["sweeps"] == [{"name": run.name, "question": "", "runs": 1}]
    assert said["figures"] == []
    assert said["claims"] == 0
    assert "there is no gain to compare" in text
    assert "This folder holds no emulated run" in found.text


def test_the_page_goes_into_the_folder_and_replaces_an_older_one(results: Path, tmp_path: Path) -> None:
    run = next(run for sweep in collect(results) for run in sweep.runs if run.spec.world == "analytic")
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    before = {place.name for place in folder.iterdir()}
    (folder / "report.html").write_text("an older report is no result")
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert done.exit_code == 0
    assert done.output.startswith(f"{folder / 'report.html'}: ")
    assert done.output.endswith("; 0 figures, 1 scene of the fabric, 0 runs replayed\n")
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {place.name for place in folder.iterdir()} - before == {"report.html"}


@pytest.mark.parametrize("what", ["missing", "file", "empty", "damaged sweep", "damaged run", "bad out"])
def test_bad_folders_are_refused(tmp_path: Path, results: Path, what: str) -> None:
    folder, out = tmp_path / "folder", tmp_path / "page.html"
    if what == "file":
        folder.write_text("")
    elif what != "missing":
        folder.mkdir()
    if what == "damaged sweep":
        (folder / "sweep.json").write_text("[1]")
    if what == "damaged run":
        (folder / "manifest.json").write_text('{"spec": {"fabric": 3}, "verdict": "valid"}')
    done = CliRunner().invoke(app, ["report", str(results if what == "bad out" else folder), "--out",
                                    str(tmp_path if what == "bad out" else out)])  # fmt: skip
    assert isinstance(done.exception, StoreError)
    assert str(tmp_path) in str(done.exception)
    assert not out.exists()


def test_runs_that_cannot_be_trusted_are_in_no_figure(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep", staleness_conditions(("emulated",)), verdict="invalid", error="it broke")
    found, said, _ = parsed(made_report(tmp_path / "sweep"))
    assert said["figures"] == ["evidence"]
    assert said["replayed"] == 0
    assert "it broke" in found.text
    assert "No run of this folder can be trusted" in found.text


def test_what_a_user_wrote_is_text_everywhere(hostile_report: MadeReport) -> None:
    found, _, text = parsed(hostile_report)
    assert len(found.scripts) == 4  # none was closed early and none came in
    assert "img" not in found.tags
    assert ATTACK in found.text  # as text it is shown
    assert ATTACK in json.dumps(found.data)
    assert "<script>window" not in text
    for figure in found.data["figures"].values():
        assert isinstance(figure, dict)
        for panel in figure["panels"]:
            for shown in ("name", "text", "hovertemplate"):
                assert "<script" not in json.dumps([trace.get(shown) for trace in panel["data"]])


def test_data_cannot_end_the_element_it_is_in() -> None:
    text = embedded({"policy": ATTACK, "worse": "<!--<script>", "nan": float("nan")})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"policy": ATTACK, "worse": "<!--<script>", "nan": None}


def test_sentences_are_typeset_and_escaped() -> None:
    assert prose("netkv_full: -3.5 % <b>") == "NetKV-Full: <b>−3.5\N{NO-BREAK SPACE}%</b> &lt;b&gt;"
    assert prose("run `netkv sweep scale` as `x`") == "run <code>netkv sweep scale</code> as “x”"
    assert prose("seed-3 in 2-4, +/-5 %") == "seed-3 in 2-4, <b>±5\N{NO-BREAK SPACE}%</b>"


def test_a_run_is_called_by_its_policy_refresh_interval_and_world() -> None:
    full = {"policy": "netkv_full", "oracle.refresh_s": "never"}
    assert run_label(make_spec({}, full)) == "NetKV-Full, telemetry never refreshed · emulated"
    assert run_label(make_spec({}, {"policy": "round_robin", "world": "analytic"})) == "Round-robin · analytic"


def test_an_analytic_run_is_repeated_for_finer_samples_of_its_links(results: Path) -> None:
    (scene,) = scenes(collect(results))
    run = next(run for run in scene["runs"] if run["world"] == "analytic")
    assert "the run repeated, with a sample every 0.25 s" in run["about"]
    assert np.diff(run["times"]) == pytest.approx(0.25, abs=0.11)  # the polls are a tenth of a second apart
