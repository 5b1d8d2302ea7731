"""Whatever a user can get wrong on the command line ends in one clear line, exit code 2, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import app
from tests.support.command_line import (
    A_LONG_NAME,
    RUN,
    SWEEP,
    CommandLine,
    Said,
    everything_in,
    fill,
    refused,
)

pytestmark = pytest.mark.xdist_group("command line")

CONSOLE_SCRIPT = Path(sys.executable).parent / "netkv"
BAD = [
    # what is asked for by name
    ((*RUN, "--policy", "fastest"), "policy: 'fastest' is not one of round_robin, "),
    (
        (*RUN, "--policy", "no_such_module:Mine"),
        "policy: no_such_module:Mine: cannot be imported: no module no_such_module",
    ),
    ((*RUN, "--policy", "json:dumps"), "policy: json:dumps: not a class with a select method"),
    (("run", "--world", "mars"), "world: Input should be 'emulated' or 'analytic' (got 'mars')"),
    ((*RUN, "--congestion", "storm"), "congestion.kind: Input should be 'none', 'constant', "),
    ((*RUN, "--set", "model=gpt"), "model: 'gpt' is not one of llama-3-70b"),
    ((*RUN, "--set", "workload.profile=poetry"), "workload.profile: 'poetry' is not one of conversation"),
    ((*RUN, "--set", "serving.placement=diagonal"), "placement: 'diagonal' is not one of segregated"),
    # --set
    ((*RUN, "--set", "seed"), "--set seed: key=value was expected"),
    ((*RUN, "--set", "=3"), "--set =3: key=value was expected"),
    ((*RUN, "--set", "seed=[1"), "--set seed=[1: the value is not YAML"),
    ((*RUN, "--set", "seed=2024-99-99"), "--set seed=2024-99-99: the value is not YAML"),
    ((*RUN, "--set", "seed=" + "[" * 1500), "--set seed=[[["),
    ((*RUN, "--set", "seed=" + "9" * 9999), "--set seed=999"),
    ((*RUN, "--set", "polcy=cla"), "polcy: no such field (did you mean policy?)"),
    ((*RUN, "--set", "fabric.podz=2"), "fabric.podz: no such field (did you mean pods?)"),
    ((*RUN, "--set", "emulation.rate_scales=2"), "emulation.rate_scales: no such field (did you mean rate_scale?)"),
    ((*RUN, "--set", "pods=2"), "pods: no such field (did you mean fabric.pods?)"),
    ((*RUN, "--set", "fabric.x=2"), "fabric.x: no such field"),
    ((*RUN, "--set", "fabric=2"), "fabric: Input should be a dictionary"),
    ((*RUN, "--set", "seed.x=2", "--seed", "1"), "seed.x: seed is not a section"),
    ((*RUN, "--set", "seed="), "seed: Input should be a valid integer"),
    # numbers
    ((*RUN, "--requests", "0"), "workload.requests: Input should be greater than or equal to 1 (got 0)"),
    ((*RUN, "--requests", "-3"), "workload.requests: Input should be greater than or equal to 1 (got -3)"),
    ((*RUN, "--requests", "1000000000000"), "workload.requests: Input should be less than or equal to 1000000"),
    ((*RUN, "--seed", "-1"), "seed: Input should be greater than or equal to 0 (got -1)"),
    ((*RUN, "--seed", "4294967296"), "seed: Input should be less than 4294967296"),
    ((*RUN, "--refresh", "often"), "oracle.refresh_s: Input should be a valid number, unable to parse"),
    ((*RUN, "--set", "oracle.loss=2"), "oracle.loss: Input should be less than or equal to 1 (got 2)"),
    ((*RUN, "--set", "oracle.delay_s=-1"), "oracle.delay_s: Input should be greater than or equal to 0 (got -1)"),
    ((*RUN, "--set", "oracle.noise=nan"), "oracle.noise: Input should be"),
    ((*RUN, "--set", "oracle.smoothing=mean"), "oracle.smoothing: Input should be 'last' or 'ewma' (got 'mean')"),
    ((*RUN, "--set", "oracle.preset=netflow"), "oracle.preset: Input should be 'sonic_counters', 'sonic_queues', "),
    (
        (*RUN, "--set", "emulation.alto_port=6653"),
        "emulation: alto_port: 6653 is the controller_port: choose another",
    ),
    ((*RUN, "--set", "congestion.protocol=udp"), "congestion: protocol: udp has no greedy form: give onoff a"),
    ((*RUN, "--set", "congestion.utilisation=2"), "congestion.utilisation: Input should be less than or equal to 1"),
    (
        (*RUN, "--congestion", "constant", "--set", "fabric.pods=1"),
        "congestion.tiers: this fabric has no traffic of tier 3",
    ),
    ((*RUN, "--refresh", "0"), "oracle.refresh_s: Input should be greater than 0"),
    ((*RUN, "--refresh", "nan"), "oracle.refresh_s: Input should be a finite number (got nan)"),
    ((*RUN, "--refresh", "inf"), "oracle.refresh_s: Input should be a finite number (got inf)"),
    ((*RUN, "--set", "workload.rate_rps=.nan"), "workload.rate_rps: Input should be"),
    ((*RUN, "--set", "workload.speedup=-1"), "workload.speedup: Input should be greater than or equal to"),
    ((*RUN, "--set", "serving.stripes=1.5"), "serving.stripes: Input should be a valid integer"),
    ((*RUN, "--set", "congestion.mean_on_s=1e-9"), "congestion.mean_on_s: Input should be greater than"),
    (
        (*RUN, "--set", "serving.engine=mooncake", "--set", "serving.connections=per_transfer"),
        "serving: connections: per_transfer: Mooncake's engine keeps its connections: leave it out, or set",
    ),
    (
        (*RUN, "--set", "serving.engine=mooncake", "--set", "serving.stripes=17"),
        "serving: stripes: 17: Mooncake's engine opens at most 16 connections to a peer: set fewer, or engine=sockets",
    ),
    # fabrics
    ((*RUN, "--set", "fabric.pods=0"), "fabric: pods: 0 is below 1"),
    ((*RUN, "--set", "fabric.pods=9999"), "fabric: pods: 9999 is beyond the 255"),
    (
        (*RUN, "--set", "fabric.cores_per_group=1000000000"),
        "fabric: aggregations_per_pod x cores_per_group: 2000000000",
    ),
    ((*RUN, "--set", "fabric.gpus_per_instance=3"), "fabric: gpus_per_instance: 3 does not divide"),
    ((*RUN, "--set", "fabric.nic_rate_bps=-1"), "fabric: nic_rate_bps: -1.0 is not positive"),
    ((*RUN, "--set", "fabric.nic_rate_bps=.nan"), "fabric: nic_rate_bps: nan is not finite"),
    ((*RUN, "--set", "fabric.nic_rate_bps=" + "9" * 400), "fabric.nic_rate_bps: Input should be a valid number"),
    ((*RUN, "--set", "fabric.servers_per_rack=1"), "placement: 'segregated' leaves no decode instance"),
    # specifications
    ((*RUN, "missing.yaml"), "missing.yaml: No such file or directory"),
    ((*RUN, "taken"), "taken: Is a directory"),
    ((*RUN, "file/x.yaml"), "file/x.yaml: Not a directory"),
    ((*RUN, A_LONG_NAME), f"{A_LONG_NAME}: File name too long"),
    ((*RUN, "broken.yaml"), "broken.yaml:3:1: not YAML"),
    ((*RUN, "list.yaml"), "list.yaml: a mapping of fields was expected, not list"),
    ((*RUN, "scalar.yaml"), "scalar.yaml: a mapping of fields was expected, not str"),
    ((*RUN, "binary.yaml"), "binary.yaml: not UTF-8 text"),
    ((*RUN, "nul.yaml"), "nul.yaml: not YAML"),
    ((*RUN, "date.yaml"), "date.yaml: not YAML: month must be in 1..12"),
    ((*RUN, "digits.yaml"), "digits.yaml: not YAML"),
    ((*RUN, "deep.yaml"), "deep.yaml:1:56: not YAML: nested deeper than 50"),
    ((*RUN, "ouroboros.yaml"), "ouroboros.yaml:1:20: not YAML: a field that holds itself: write it out"),
    ((*RUN, "keys.yaml"), "keys.yaml: 1: Keys should be strings"),
    ((*RUN, "bomb.yaml"), "bomb.yaml:5:11: not YAML: more than 20,000 values, its aliases written out"),
    ((*RUN, "tag.yaml"), "tag.yaml:1:7: not YAML: a tag (tag:yaml.org,2002:int), a plain value was expected: leave"),
    ((*RUN, "twice.yaml"), "twice.yaml:3:1: not YAML: 'seed' twice, first on line 1: leave one of them"),
    ((*RUN, "long.yaml"), "long.yaml: not YAML: longer than 256 KiB"),
    ((*RUN, "--set", "seed=!!bool maybe"), "--set seed=!!bool maybe: the value is not YAML: a tag (tag:yaml.org"),
    ((*RUN, "--set", "a\x1b[2J=1"), "a\\x1b[2J: no such field"),
    ((*RUN, "field.yaml"), "field.yaml:2:3: fabric.podz: no such field (did you mean pods?)"),
    ((*RUN, "pods.yaml"), "pods.yaml:2:3: fabric.pods: Input should be a valid integer"),
    # traces
    ((*RUN, "--trace", "missing.jsonl"), "workload.trace: missing.jsonl: No such file or directory"),
    ((*RUN, "--trace", A_LONG_NAME), f"workload.trace: {A_LONG_NAME}: File name too long"),
    ((*RUN, "--trace", "taken"), "taken: Is a directory"),
    ((*RUN, "--trace", "empty.jsonl"), "empty.jsonl: the trace is empty"),
    ((*RUN, "--trace", "junk.jsonl"), "junk.jsonl:1: not UTF-8 text"),
    ((*RUN, "--trace", "line.jsonl"), "line.jsonl:2: input_length: 'many' is not a whole number"),
    ((*RUN, "--trace", "nan.jsonl"), "nan.jsonl:1: timestamp: nan is outside"),
    ((*RUN, "--trace", "digits.jsonl"), "digits.jsonl:1: not JSON that can be read"),
    ((*RUN, "--trace", "lfs.jsonl"), "lfs.jsonl:1: a Git-LFS pointer, not the trace: `git lfs pull`"),
    ((*RUN, "--trace", "page.jsonl"), "page.jsonl:1: a web page (HTML or XML), not a trace: download the raw file"),
    ((*RUN, "--trace", "twice.jsonl"), "twice.jsonl:1: 'timestamp' twice in one object: leave one of them"),
    ((*RUN, "--trace", "late.jsonl"), "workload: the last request would arrive after"),
    ((*RUN, "--trace", "cut.jsonl.gz"), "cut.jsonl.gz: broken gzip after line 0"),
    ((*RUN, "--trace", "plain.jsonl.gz"), "plain.jsonl.gz: not a gzip file, though its name ends in .gz"),
    ((*RUN, "--trace", "good.jsonl", "--set", "workload.first_request=5"), "workload: good.jsonl has 1 requests, so"),
    ((*RUN, "--set", "workload.warm_requests=9"), "workload: warm_requests: 9 requests are not there before number 0"),
    # where the results go
    ((*RUN, "--out", "taken"), "taken: is there already; nothing was overwritten"),
    ((*RUN, "--out", "."), ".: is there already; nothing was overwritten"),
    ((*RUN, "--out", "file"), "file: is there already; nothing was overwritten"),
    ((*RUN, "--out", "file/run"), "file/run: "),
    ((*RUN, "--out", "dangling"), "dangling: is there already; nothing was overwritten"),
    ((*RUN, "--out", A_LONG_NAME), f"{A_LONG_NAME}: File name too long"),
    # sweeps
    (("sweep", "weather"), "sweep: 'weather' is not one of staleness, staleness_map, topology"),
    (("init", "file"), "file: is there already; nothing was overwritten"),
    (("init", "taken"), "taken: is there already; nothing was overwritten"),
    (("init", "dangling", "--schema"), "dangling: is there already; nothing was overwritten"),
    (("init", "file/spec.yaml"), "file/spec.yaml: "),
    (("export", "taken", "--format", "csv"), "taken: not a run folder: manifest.json: No such file"),
    (("export", "taken", "--format", "jsonl"), "--format: 'jsonl' is not one of vllm, aiperf, csv, chrome-trace"),
    (("export", "taken", "--format", "csv", "--out", "file"), "file: is there already; nothing was overwritten"),
    (("explain", "taken"), "taken: not a run folder: manifest.json: No such file"),
    (("explain", "missing", "3"), "missing: not a run folder: manifest.json: No such file"),
    (("explain", "taken", "first"), "first: the number of a request was expected"),
    (("explain", "taken", "--sample", "0"), "--sample 0: above 0 and at most 100 was expected"),
    (("report", "missing"), "missing: no such folder"),
    (("report", "file"), "file: is a file, not a folder"),
    (("trace", "inspect", "broken.yaml"), "broken.yaml:1: not JSON: "),
    (("trace", "convert", "good.jsonl", "nowhere/out.jsonl"), "nowhere/out.jsonl: there is no folder nowhere"),
    (("check", "taken"), "taken: neither a run folder (no manifest.json) nor a sweep with runs (no runs/*/)"),
    (("check", "file"), "file: neither a run folder"),
    (("sweep", "scale", "--map"), "--map: scale has none (staleness has)"),
    (("sweep", "scale", "--set", "fabric.pods=4"), "fabric.pods: the sweep varies it"),
    (("sweep", "scale", "--set", "fabric.pods=half"), "fabric.pods: the sweep varies it"),
    (("sweep", "scale", "--set", "workload.requests=many"), "workload.requests: Input should be a valid integer"),
    (("sweep", "prefix", "--trace", "good.jsonl"), "workload.trace: a trace shares what it shares"),
    (("sweep", "prefix", "--set", "workload.sharing=2"), "workload.sharing: Input should be less than or equal to 1"),
    (("sweep", "topology", "--set", "fabric.tor_oversubscription=0"), "fabric: tor_oversubscription: "),
    (("sweep", "topology", "--set", "fabric.tor_oversubscription=low"), "fabric.tor_oversubscription: Input"),
    (("sweep", "ablation", "--profile", "slow"), "profile: 'slow' is not one of quick, full"),
    ((*SWEEP, "--profile", "slow"), "profile: 'slow' is not one of quick, full"),
    (("sweep", "staleness", "--world", "mars"), "world: 'mars' is not one of emulated, analytic, both"),
    ((*SWEEP, "--policies", ""), "policies: none was named"),
    ((*SWEEP, "--policies", "cla,fastest"), "policy: 'fastest' is not one of"),
    ((*SWEEP, "--set", "policy=cla"), "policy: a sweep sets it for each of its runs (use --policies)"),
    ((*SWEEP, "--set", "world=analytic"), "world: a sweep sets it for each of its runs (use --world)"),
    ((*SWEEP, "--set", "oracle.refresh_s=often"), "oracle.refresh_s: Input should be a valid number"),
    ((*SWEEP, "--set", "seed=first"), "seed: Input should be a valid integer"),
    ((*SWEEP, "--refresh", "nan"), "oracle.refresh_s: Input should be a finite number"),
    ((*SWEEP, "--trace", "line.jsonl"), "line.jsonl:2: input_length"),
    ((*SWEEP, "--trace", "empty.jsonl"), "empty.jsonl: the trace is empty"),
    ((*SWEEP[:-1], "taken"), "taken: is there already (add --resume to continue it"),
    ((*SWEEP[:-1], "taken", "--resume"), "taken: not a sweep: sweep.json: No such file"),
    ((*SWEEP[:-1], "file", "--resume"), "file: not a sweep: sweep.json: Not a directory"),
    ((*SWEEP[:-1], "file/new"), "file/new: "),
    # the verbs that only look
    (("plan", "list.yaml"), "list.yaml: a mapping of fields was expected, not list"),
    (("plan", "--trace", "empty.jsonl"), "empty.jsonl: the trace is empty"),
    (("plan", "--figure", "fabric.jpg"), "--figure fabric.jpg: the name must end in .png, .svg or .pdf"),
    (("plan", "--figure", "nowhere/fabric.svg"), "--figure nowhere/fabric.svg: No such file or directory"),
    (("shell", "--set", "fabric.pods=0"), "fabric: pods: 0 is below 1"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "here"
    fill(place)
    return place


@pytest.fixture
def netkv(server: subprocess.Popen[str], folder: Path, tmp_path: Path) -> CommandLine:
    return CommandLine(server, folder, tmp_path)


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(given)[:60] for given, _ in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(
    netkv: CommandLine, folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = everything_in(folder)
    assert refused(netkv(*arguments)).startswith(message)
    assert everything_in(folder) == before


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ((*RUN, "--policy", "netkv_ful"), "netkv_full"),
        ((*RUN, "--set", "policy_parameters.cla_start.prefix=1"), "cla_star"),
        ((*RUN, "--congestion", "hotspots"), "hotspot"),
        ((*RUN, "brken.yaml"), "broken.yaml"),
        ((*RUN, "--trace", "goood.jsonl"), "good.jsonl"),
        ((*RUN, "--set", "workload.profile=chatbt"), "chatbot"),
        ((*RUN, "--set", "model=llama3-70b"), "llama-3-70b"),
        ((*RUN, "--set", "serving.placement=colocate"), "colocated"),
        (("sweep", "stalenes"), "staleness"),
        (("sweep", "topology", "--profile", "fulll"), "full"),
        (("sweep", "topology", "--world", "emulate"), "emulated"),
        (("export", "taken", "--format", "chrome_trace"), "chrome-trace"),
    ],
)
def test_a_name_that_is_nearly_right_is_suggested(netkv: CommandLine, arguments: tuple[str, ...], meant: str) -> None:
    assert refused(netkv(*arguments)).endswith(f"(did you mean {meant}?)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fly",), "No such command 'fly'"),
        (("run", "--speed", "9"), "No such option: --speed"),
        (("run", "--requests", "many"), "Invalid value for '--requests'"),
        (("run", "--seed"), "requires an argument"),
        (("run", "one.yaml", "two.yaml"), "unexpected extra argument"),
        (("sweep",), "Missing argument"),
    ],
)
def test_bad_usage_is_told_as_usage(netkv: CommandLine, folder: Path, arguments: tuple[str, ...], message: str) -> None:
    before = everything_in(folder)
    said = netkv(*arguments)
    assert said.code == 2
    assert message in said.err
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) <= 6
    assert everything_in(folder) == before


VERBS = [str(command.callback.__name__) for command in app.registered_commands if command.callback]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(netkv: CommandLine, verb: str) -> None:
    said = netkv(verb, "--help")
    assert said.code == 0
    assert said.out.startswith(f"Usage: netkv {verb}")
    assert said.err == ""


def test_a_users_policy_is_looked_for_in_the_folder_the_command_is_typed_in(netkv: CommandLine, folder: Path) -> None:
    (folder / "mine.py").write_text("class Mine:\n    pass\n")
    assert refused(netkv(*RUN, "--policy", "mine:Yours")) == "policy: mine:Yours: module mine has no Yours"


# The real console script


def console_script(folder: Path, *arguments: str) -> Said:
    done = subprocess.run(
        [str(CONSOLE_SCRIPT), *arguments],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C"},
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


def test_the_console_script_itself(folder: Path) -> None:
    before = everything_in(folder)
    assert refused(console_script(folder, *RUN, "--policy", "fastest")).startswith("policy: 'fastest' is not one of")
    assert everything_in(folder) == before
