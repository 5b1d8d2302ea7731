"""A router behind HTTP as a policy: what it is told, what it may answer, and one clear line for everything else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.questions.question import in_a_folders_name
from experiments.questions.result_tables import LONGEST_NAME, in_a_column
from experiments.running.errors import SpecError
from experiments.running.run_spec import make_spec
from scheduler import POLICIES, PolicyError, RejectedError, find_policy, new_policy, reads_telemetry
from scheduler.policy import choose
from scheduler.router_url import parse_router_url
from scheduler.routing_exchange import LONGEST_ANSWER_BYTES, question
from tests.support.one_decision import DECODE, FABRIC, REQUEST, candidates, view
from tests.support.paths import ROOT
from tests.support.scripted_router import Answer, reply, scripted_router

LIMIT_S = 0.3
EXPECTED = '{"decode_id": NUMBER} or {"reject": "why"} is expected'


def nearest(document: dict[str, Any]) -> bytes:
    """The nearest able one, the least loaded of these, the first of these: as the `ORDERED` policy chooses."""
    able = [one for one in document["candidates"] if one["feasible"]]
    best = min(able, key=lambda one: (one["tier"], one["waiting"] + one["running"], one["decode_id"]))
    return reply({"decode_id": best["decode_id"], "reason": f"tier {best['tier']}"})


def decide(url: str, limit_s: float = LIMIT_S, **given: dict[int, Any]) -> int:
    policy = new_policy(url, limit_s=limit_s)
    return choose(policy, url, REQUEST, candidates(**given), view(busy=()), limit_s)


# -- what it is told ----------------------------------------------------------------------------------------------


def test_it_is_told_what_a_router_may_know() -> None:
    with scripted_router(nearest) as router:
        assert decide(router.url, cached_tokens={6: 600}, waiting={2: 3}, feasible={3: False}) == 2
    (asked,) = router.documents
    assert asked["schema"] == "netkv.route/v1"
    assert asked["request"] == {
        "request_id": 0,
        "arrival_s": 0.0,
        "prompt_tokens": 1000,
        "prompt_kv_bytes": 327_680_000.0,
        "block_tokens": 512,
        "block_ids": [0, 1],
    }
    told = {one["decode_id"]: one for one in asked["candidates"]}
    assert tuple(told) == DECODE
    assert [one["feasible"] for one in told.values()] == [True, False, *[True] * 6]
    assert (told[2]["waiting"], told[6]["cached_tokens"]) == (3, 600)
    assert told[6]["kv_bytes"] == pytest.approx(400 * 327_680)
    assert told[2]["nominal_Bps"] == 25e9
    assert "available_Bps" not in told[2]
    assert "snapshot" not in asked
    assert "output" not in json.dumps(asked), "no router knows how long an answer will be"


def test_who_asks_for_the_snapshot_gets_it_and_it_counts_as_read() -> None:
    network = view(busy=("tor0>srv1",))
    asked = question(REQUEST, candidates(), network, snapshot=True)
    assert set(asked["snapshot"]["links"]) == {link.name for link in FABRIC.links}
    assert asked["snapshot"]["links"]["tor0>srv1"] == {"capacity_bps": 200e9, "utilisation": 1.0}
    assert asked["candidates"][0]["available_Bps"] < asked["candidates"][1]["nominal_Bps"]
    without = view()
    assert question(REQUEST, candidates(), without, snapshot=True)["snapshot"] is None
    assert without.missed == "no telemetry"
    unasked = view()
    question(REQUEST, candidates(), unasked, snapshot=False)
    assert unasked.missed == ""


def test_one_connection_serves_all_decisions() -> None:
    with scripted_router(nearest) as router:
        policy = new_policy(router.url)
        assert {choose(policy, router.url, REQUEST, candidates(), view(), 5.0) for _ in range(20)} == {2}
    assert router.connections == 1
    assert router.heads[0].startswith("POST /select HTTP/1.1\r\nHost: 127.0.0.1:")


def test_a_router_that_closes_after_each_answer_is_asked_on_another_connection() -> None:
    def and_close(document: dict[str, Any]) -> Iterator[bytes]:
        yield nearest(document)
        raise OSError  # ends this connection

    with scripted_router(and_close) as router:
        policy = new_policy(router.url)
        assert [choose(policy, router.url, REQUEST, candidates(), view(), 5.0) for _ in range(5)] == [2] * 5
    assert router.connections == 5


def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    with scripted_router(nearest, tmp_path / "router.sock") as router:
        assert decide(router.url) == 2
    assert "Host: localhost\r\n" in router.heads[0]


# -- what it answers ----------------------------------------------------------------------------------------------


def test_it_may_turn_a_request_away() -> None:
    with (
        scripted_router(lambda _: reply({"reject": "too busy"})) as router,
        pytest.raises(RejectedError, match="too busy"),
    ):
        decide(router.url)


def endless(_: dict[str, Any]) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"1000\r\n" + b"x" * 0x1000 + b"\r\n"


NESTED = "[" * 60_000


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (reply("no such page", "404 Not Found"), "answered 404 Not Found: 'no such page' (200 and {"),
        (reply("", "500 Oops"), "answered 500 Oops: an empty body"),
        (reply("", "302 Found", "Location: http://127.0.0.1:1/"), "was redirected to 'http://127.0.0.1:1/' (302)"),
        (reply("2"), f"the answer is no JSON object: '2' ({EXPECTED})"),
        (reply("instance 2"), f"the answer is not JSON: 'instance 2' ({EXPECTED})"),
        (reply(b"\xff\xfe\xff"), "the answer is not JSON: "),
        (reply(NESTED), "the answer is not JSON: '[[["),
        (reply('{"decode_id": NaN}'), "the answer is not JSON: "),
        (reply({"decode_id": True}), "the answer is without a whole number as decode_id: "),
        (reply({"decode_id": 2.0}), "the answer is without a whole number as decode_id: "),
        (reply({"decode_id": "2"}), "the answer is without a whole number as decode_id: "),
        (reply({"decode_id": 2, "reason": 7}), "the answer is with a reason that is no text: "),
        (reply({}), "the answer is without a whole number as decode_id: '{}'"),
        (reply("x" * (LONGEST_ANSWER_BYTES + 1)), "was answered with over 65,536 bytes"),
        (endless, "was answered with over 65,536 bytes"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "had no HTTP answer: SSH-2.0"),
        (b"", "had no HTTP answer: Remote end closed connection"),
        (reply({"decode_id": 2})[:-3] + b"\0", None),
    ],
)  # fmt: skip
def test_anything_else_is_one_line_that_says_what_came_back(answer: bytes | Answer, complaint: str | None) -> None:
    script: Answer = (lambda _: answer) if isinstance(answer, bytes) else answer
    with scripted_router(script) as router, pytest.raises(PolicyError) as caught:
        decide(router.url)
    said = str(caught.value)
    assert said.startswith(f"policy {router.url} failed on request 0: ")
    assert complaint is None or complaint in said
    assert "\n" not in said
    assert len(said) < 380


@pytest.mark.parametrize(
    ("decode_id", "complaint"),
    [(0, "chose 0 for request 0: no such decode instance"), (3, "chose 3 for request 0: it can never hold it")],
)
def test_its_choice_is_held_against_the_same_contract(decode_id: int, complaint: str) -> None:
    with scripted_router(lambda _: reply({"decode_id": decode_id})) as router, pytest.raises(PolicyError) as caught:
        decide(router.url, feasible={3: False})
    assert str(caught.value) == f"policy {router.url} {complaint}"


@pytest.mark.parametrize("slowly", [False, True], ids=["silent", "drop by drop"])
def test_the_time_limit_holds_for_the_whole_answer(slowly: bool) -> None:
    def never(_: dict[str, Any]) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" if slowly else b"H"
        while not router.stopped.wait(0.02 if slowly else 20):
            yield b" "

    with scripted_router(never) as router, pytest.raises(PolicyError) as caught:
        decide(router.url)
    assert re.search(r"a POST of [\d,]+ bytes had no whole answer within 0\.3 s \(answer faster, or", str(caught.value))


def test_off_the_main_thread_where_no_alarm_comes_each_wait_ends_too() -> None:
    def never(_: dict[str, Any]) -> Iterator[bytes]:
        yield b"H"
        router.stopped.wait(20)

    with scripted_router(never) as router, ThreadPoolExecutor(1) as elsewhere:
        policy = new_policy(router.url, limit_s=0.1)
        asked = elsewhere.submit(choose, policy, router.url, REQUEST, candidates(), view(), 0.1)
        with pytest.raises(PolicyError, match=r"had no whole answer within 0\.1 s"):
            asked.result(10)


def test_a_router_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    with scripted_router(nearest) as router:
        pass
    with pytest.raises(PolicyError, match=r"/select: no connection: Connection refused \(start the router first\)"):
        new_policy(router.url)
    with pytest.raises(PolicyError, match=r"no connection: No such file or directory"):
        new_policy(f"http+unix:{tmp_path}/none.sock:/")


# -- where it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host", "port", "socket", "target", "snapshot"),
    [
        ("http://127.0.0.1:8000/select", "127.0.0.1", 8000, "", "/select", False),
        ("http://localhost:8000", "localhost", 8000, "", "/", False),
        ("http://[::1]:8000/a?b=c#snapshot", "::1", 8000, "", "/a?b=c", True),
        ("http://127.8.0.1/x", "127.8.0.1", 80, "", "/x", False),
        ("http://10.0.0.7:8000/x#remote+snapshot", "10.0.0.7", 8000, "", "/x", True),
        ("http+unix:/tmp/r.sock:/select#snapshot", "localhost", 0, "/tmp/r.sock", "/select", True),
    ],
)
def test_addresses(text: str, host: str, port: int, socket: str, target: str, snapshot: bool) -> None:
    found = parse_router_url(text)
    assert (found.host, found.port, found.socket, found.target, found.snapshot) == (
        host,
        port,
        socket,
        target,
        snapshot,
    )
    assert reads_telemetry(text) == snapshot


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("http://10.0.0.7:8000/x", "10.0.0.7 is not this machine's loopback (add #remote if that is meant)"),
        ("http://router.example/x", "router.example is not this machine's loopback"),
        ("http://127.0.0.1:8000/x#snapshots", "'snapshots' is not one of snapshot, remote (did you mean snapshot?)"),
        ("http://127.0.0.1:80000/x", "Port out of range 0-65535"),
        ("http://127.0.0.1:x/", "Port could not be cast"),
        ("http://user:secret@127.0.0.1/x", "http://HOST:PORT/PATH or"),
        ("http:///x", "http://HOST:PORT/PATH or"),
        ("http://[::1/x", "Invalid IPv6 URL"),
        ("https://127.0.0.1:8000/x", "http://HOST:PORT/PATH or"),
        ("unix:/tmp/r.sock", "http://HOST:PORT/PATH or"),
        ("http+unix:tmp/r.sock:/x", "an absolute path"),
        ("http+unix:/tmp/r.sock", "an absolute path"),
        (f"http+unix:/{'x' * 107}:/x", "of at most 107 bytes"),
        ("http://127.0.0.1/a b", "only printable ASCII"),
        ("http://127.0.0.1/\n", "only printable ASCII"),
    ],
)
def test_addresses_that_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        find_policy(text)
    assert str(caught.value).startswith(f"policy: {text}: ")
    assert complaint in str(caught.value)


def test_a_socket_that_the_sandbox_hides_is_refused_before_anything_is_brought_up() -> None:
    with pytest.raises(SpecError, match="the sandbox has a /run of its own: put the socket elsewhere"):
        make_spec({}, {"policy": "http+unix:/run/user/0/r.sock:/x"})
    make_spec({}, {"policy": "http+unix:/run/user/0/r.sock:/x", "world": "analytic"})


def test_a_folder_is_named_without_slashes() -> None:
    assert in_a_folders_name("http://127.0.0.1:8000/select#snapshot") == "http-127.0.0.1-8000-select-snapshot"
    assert in_a_folders_name("my_module:Mine") == "my_module.Mine"


def test_a_table_of_80_columns_shows_the_end_of_a_url() -> None:
    assert in_a_column("http://127.0.0.1:8000/select#snapshot") == "…:8000/select#snapshot"
    assert max(map(len, POLICIES)) < LONGEST_NAME
    assert [name for name in POLICIES if in_a_column(name) != name] == []


def test_a_router_takes_no_parameters() -> None:
    with pytest.raises(PolicyError, match=r"no parameter 'x' \(it has none\)"):
        new_policy("http://127.0.0.1:1/", {"x": 1.0})


# -- a whole run --------------------------------------------------------------------------------------------------


def run(policy: str, out: Path, *options: str) -> Any:
    arguments = ["run", "--world", "analytic", "--policy", policy, "--requests", "40", "--out", str(out), *options]
    return CliRunner().invoke(app, arguments)


def decided(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "decisions.parquet").set_index("request_id").sort_index()


ORDERED = """
import numpy as np


class Ordered:
    def select(self, request, candidates, view):
        order = np.lexsort((candidates.decode_id, candidates.waiting + candidates.running, candidates.tier))
        return int(next(candidates.decode_id[at] for at in order if candidates.feasible[at]))
"""


def test_a_run_decides_as_the_same_policy_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ordered_policy.py").write_text(ORDERED, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run("ordered_policy:Ordered", tmp_path / "ours").exit_code == 0
    with scripted_router(nearest) as router:
        done = run(router.url, tmp_path / "theirs")
        assert done.exit_code == 0, done.output
    ours, theirs = decided(tmp_path / "ours"), decided(tmp_path / "theirs")
    assert theirs["decode_id"].tolist() == ours["decode_id"].tolist()
    assert theirs["reason"].tolist() == [f"tier {tier}" for tier in theirs["tier"]]
    assert "reason" not in ours
    assert len(router.documents) == len(theirs)


def test_a_router_that_fails_ends_the_run_and_the_record_is_kept(tmp_path: Path) -> None:
    def fails_at_20(document: dict[str, Any]) -> bytes:
        return reply("out of ideas", "503 No") if document["request"]["request_id"] == 20 else nearest(document)

    out = tmp_path / "run"
    with scripted_router(fails_at_20) as router:
        assert run(router.url, out).exit_code == 1
    manifest = json.loads((out / "manifest.json").read_text())
    (reason,) = manifest["verdict_reasons"]
    assert manifest["verdict"] == "invalid"
    assert reason.startswith(f"policy {router.url} failed on request 20: a POST of ")
    assert "was answered 503 No: 'out of ideas'" in reason
    assert len(decided(out)) > 5


def test_a_router_that_is_not_there_is_bad_input_and_leaves_nothing(tmp_path: Path) -> None:
    with scripted_router(nearest) as router:
        pass
    done = run(router.url, tmp_path / "run")
    assert isinstance(done.exception, PolicyError)  # exit code 2 (experiments.cli)
    assert not (tmp_path / "run").exists()


def test_every_field_is_on_the_page() -> None:
    page = (ROOT / "docs" / "reference" / "netkv-route-v1.md").read_text(encoding="utf-8")

    def names(document: Any) -> set[str]:
        if isinstance(document, list | tuple):
            return set().union(*map(names, document))
        if isinstance(document, dict):
            inner = set() if "tor0>srv1" in document else set(document)
            return inner.union(*map(names, document.values()))
        return set()

    told = names(question(REQUEST, candidates(), view(busy=()), snapshot=True))
    assert sorted(name for name in told if f"`{name}`" not in page) == []
