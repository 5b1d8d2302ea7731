"""Public routers as processes before stub workers, in a network of their own: `ask` runs one experiment in a sandbox.

`sglang_router` and `vllm_router` are started as their users do. Stubs report the loads that they are given, tokenise
prompts, keep a response back as long as a request runs, and note who got which request. A router looks for a
tokenizer on the internet: there is none in the sandbox, and the failure is harmless.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from testbed import python_in_sandbox
from tests.support.paths import environment

DEADLINE_S = 240.0
READY_S = 30.0
HELD_S = 60.0
ROUTER_PORT, METRICS_PORT = 8100, 29100
DECODE_PORTS = tuple(range(9101, 9109))
PREFILL_PORTS = (9001, 9002)
BLOCK_SIGNS, TOKEN_SIGNS = 64, 8
RENDER = "/v1/completions/render"
"""vLLM's cache-aware router asks every worker for the tokens of a prompt before it chooses one."""

SETTLED_S = 0.02
"""A router counts a request out when its response has gone through; nothing says when, so this is waited."""


def lacks(package: str) -> str:
    """Why a router cannot be started here; empty when it can."""
    found = importlib.util.find_spec(package)
    return "" if found else f"{package} is not installed: pip install sglang-router==0.3.2 vllm-router==0.1.17"


def ask(experiment: str, **order: Any) -> dict[str, Any]:
    """Run one experiment of this module in a sandbox that ends with it. Fails with what it said when it fails."""
    done = subprocess.run(
        python_in_sandbox(__name__), input=json.dumps({"do": experiment, **order}),
        env=with_the_routers(), capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def with_the_routers() -> dict[str, str]:
    """The environment of a child that imports `tests` and the routers, wherever these are installed."""
    places = [place for place in sys.path if place.endswith("site-packages")]
    return environment() | {"PYTHONPATH": ":".join([environment()["PYTHONPATH"], *places])}


def text_of(block_ids: list[int]) -> str:
    """A prompt whose text begins alike where the ids do."""
    return "".join(hashlib.sha256(str(one).encode()).hexdigest()[:BLOCK_SIGNS] for one in block_ids)


def tokens_of(text: str) -> list[int]:
    """One token a block."""
    return [int(text[at : at + TOKEN_SIGNS], 16) for at in range(0, len(text), BLOCK_SIGNS)]


# -- inside the sandbox -------------------------------------------------------------------------------------------


@dataclass
class Stubs:
    """All stub workers: the tokens that each reports, when it was asked for them, and the requests that came."""

    flavour: str
    tokens: dict[int, int]
    tokenizes: bool = True
    polled: list[tuple[float, int]] = field(default_factory=list)
    arrived: queue.Queue[tuple[int, str]] = field(default_factory=queue.Queue)
    held: dict[str, threading.Event] = field(default_factory=dict)

    def load(self, port: int) -> Any:
        self.polled.append((time.monotonic(), port))
        if self.flavour == "vllm":
            return {"load": self.tokens[port]}
        return [{"dp_rank": 0, "num_reqs": 1, "num_waiting_reqs": 0, "num_tokens": self.tokens[port]}]

    def await_polls(self, count: int) -> None:
        """Until each decode worker's load has been asked for so often."""
        until_s = time.monotonic() + READY_S
        while min(sum(at == port for _, at in list(self.polled)) for port in DECODE_PORTS) < count:
            assert time.monotonic() < until_s, f"loads were asked for {len(self.polled)} times in {READY_S:g} s"
            time.sleep(0.01)


def handler_of(stubs: Stubs) -> type[BaseHTTPRequestHandler]:
    class Stub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path, port = self.path.partition("?")[0], self.connection.getsockname()[1]
            known: dict[str, Any] = {
                "/model_info": {"model_path": "stub", "tokenizer_path": "stub", "is_generation": True},
                "/server_info": {"model_path": "stub", "served_model_name": "stub", "tp_size": 1, "dp_size": 1},
                "/v1/models": {"object": "list", "data": [{"id": "stub", "object": "model", "root": "stub"}]},
                "/metrics": {},
            }
            known |= {"/get_model_info": known["/model_info"], "/get_server_info": known["/server_info"]}
            if path.startswith("/health"):
                self.answer(200, {})
            elif path in ("/get_load", "/get_loads"):
                self.answer(200, stubs.load(port))
            else:
                self.answer(200 if path in known else 404, known.get(path, {}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path in (RENDER, "/tokenize"):
                tokens = [{"token_ids": tokens_of(body["prompt"])}] if stubs.tokenizes else {}
                self.answer(200 if stubs.tokenizes else 404, tokens)
                return
            name = str(body.get("rid") or body.get("user"))
            stubs.arrived.put((self.connection.getsockname()[1], name))
            if name in stubs.held:
                stubs.held[name].wait(HELD_S)
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            if self.path == "/generate":
                self.answer(200, {"text": "a", "meta_info": {"id": name, "finish_reason": {"type": "length"}, **usage}})
            else:
                choice = {"index": 0, "text": "a", "finish_reason": "length", "logprobs": None}
                kv = {"remote_engine_id": "e", "remote_block_ids": [1], "remote_host": "127.0.0.1", "remote_port": 1}
                head = {"id": name, "object": "text_completion", "created": 0, "model": "stub"}
                self.answer(200, head | {"choices": [choice], "usage": usage, "kv_transfer_params": kv})

        def answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Stub


@contextmanager
def served(order: dict[str, Any]) -> Iterator[Stubs]:
    """Stub workers and the router before them, ready."""
    flavour, pd = order["flavour"], order.get("pd", False)
    loads = order.get("loads") or [0] * len(DECODE_PORTS)
    stubs = Stubs(flavour, dict(zip(DECODE_PORTS, loads, strict=True)) | dict.fromkeys(PREFILL_PORTS, 0))
    stubs.tokenizes = order.get("tokenizes", True)
    with ExitStack() as undo:
        for port in (*DECODE_PORTS, *PREFILL_PORTS):
            server = ThreadingHTTPServer(("127.0.0.1", port), handler_of(stubs))
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
        router = undo.enter_context(subprocess.Popen(router_command(order, pd), stdout=sys.stderr, stderr=sys.stderr))
        undo.callback(router.kill)
        until_s = time.monotonic() + READY_S
        while status_of("/readiness" if flavour == "sglang" else "/health") != 200:
            assert router.poll() is None, f"the router ended with {router.returncode}"
            assert time.monotonic() < until_s, f"the router was not ready within {READY_S:g} s"
            time.sleep(0.05)
        yield stubs


def router_command(order: dict[str, Any], pd: bool) -> list[str]:
    flavour, policy = order["flavour"], order["policy"]
    command = [sys.executable, "-m", f"{flavour}_router.launch_router", "--host", "127.0.0.1", "--log-level", "error"]
    command += ["--port", str(ROUTER_PORT), "--prometheus-host", "127.0.0.1", "--prometheus-port", str(METRICS_PORT)]
    command += [str(word) for word in order.get("options", ())]
    if not pd:
        return [*command, "--policy", policy, "--worker-urls", *(f"http://127.0.0.1:{port}" for port in DECODE_PORTS)]
    command += ["--pd-disaggregation" if flavour == "sglang" else "--vllm-pd-disaggregation"]
    command += ["--prefill-policy", "round_robin", "--decode-policy", policy]
    for port in PREFILL_PORTS:
        command += ["--prefill", f"http://127.0.0.1:{port}", *([str(port + 900)] if flavour == "sglang" else [])]
    for port in DECODE_PORTS:
        command += ["--decode", f"http://127.0.0.1:{port}"]
    return command


def status_of(path: str) -> int:
    with suppress(OSError):
        connection = HTTPConnection("127.0.0.1", ROUTER_PORT, timeout=2)
        connection.request("GET", path)
        return connection.getresponse().status
    return 0


class Client:
    """One connection to the router, or straight to a worker."""

    def __init__(self, flavour: str, port: int = ROUTER_PORT) -> None:
        self._flavour = flavour
        self._connection = HTTPConnection("127.0.0.1", port, timeout=HELD_S)

    def post(self, name: str, text: str) -> float:
        """Send a request and wait for its answer; how long that took, milliseconds."""
        if self._flavour == "sglang":
            path = "/generate"
            body: dict[str, Any] = {"text": text, "rid": name, "sampling_params": {"max_new_tokens": 1}}
        else:
            path, body = "/v1/completions", {"model": "stub", "prompt": text, "user": name, "max_tokens": 1}
        started_s = time.perf_counter()
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status == 200, (response.status, answer[:300])
        return 1e3 * (time.perf_counter() - started_s)


def decode_of(stubs: Stubs, name: str) -> int:
    """The position of the decode worker that got a request; in PD mode a prefill worker gets it, too."""
    while True:
        port, arrived = stubs.arrived.get(timeout=READY_S)
        if arrived.endswith(name) and port in DECODE_PORTS:
            return DECODE_PORTS.index(port)


def choices(order: dict[str, Any]) -> dict[str, Any]:
    """One request after another under loads that stay: who got each, and how long it took beside no router."""
    with served(order) as stubs:
        stubs.await_polls(2)
        client, direct = Client(order["flavour"]), Client(order["flavour"], DECODE_PORTS[0])
        chosen, took_ms, direct_ms = [], [], []
        for number in range(order["requests"]):
            took_ms.append(client.post(f"r{number}", text_of([number])))
            chosen.append(decode_of(stubs, f"r{number}"))
        for number in range(100):
            direct_ms.append(direct.post(f"d{number}", text_of([number])))
        return {"chosen": chosen, "took_ms": took_ms, "direct_ms": direct_ms}


def staleness(order: dict[str, Any]) -> dict[str, Any]:
    """Loads that are turned round once: what was chosen when, and when loads were asked for, seconds from then."""
    with served(order) as stubs:
        stubs.await_polls(2)
        client = Client(order["flavour"])
        chosen: list[tuple[float, int]] = []
        turned_s = time.monotonic()
        stubs.tokens |= dict(zip(DECODE_PORTS, reversed(order["loads"]), strict=True))
        while time.monotonic() < turned_s + order["for_s"]:
            sent_s = time.monotonic() - turned_s
            client.post(name := f"r{len(chosen)}", "text")
            chosen.append((sent_s, decode_of(stubs, name)))
        polled = [(at_s - turned_s, DECODE_PORTS.index(port)) for at_s, port in stubs.polled if port in DECODE_PORTS]
        return {"chosen": chosen, "polled": polled}


def polls(order: dict[str, Any]) -> dict[str, Any]:
    """When the first decode worker was asked for its load, seconds from when the router was ready."""
    with served(order) as stubs:
        ready_s = time.monotonic()
        threading.Event().wait(order["for_s"])
        return {"polled": [at_s - ready_s for at_s, port in stubs.polled if port == DECODE_PORTS[0]]}


def held(order: dict[str, Any]) -> dict[str, Any]:
    """Requests whose responses are kept back until `held_for` more have come: who got each."""
    with served(order) as stubs:
        chosen, running = [], []
        for number, block_ids in enumerate(order["prompts"]):
            name = f"r{number}"
            stubs.held[name] = threading.Event()
            thread = threading.Thread(
                target=Client(order["flavour"]).post, args=(name, text_of(block_ids)), daemon=True
            )
            thread.start()
            chosen.append(decode_of(stubs, name))
            running.append((name, thread))
            if len(running) > order["held_for"]:
                oldest, its_thread = running.pop(0)
                stubs.held[oldest].set()
                its_thread.join(READY_S)
                threading.Event().wait(SETTLED_S)
        for name, _ in running:
            stubs.held[name].set()
        return {"chosen": chosen}


EXPERIMENTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "choices": choices,
    "staleness": staleness,
    "polls": polls,
    "held": held,
}


def main() -> None:
    order = json.load(sys.stdin)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)
    print(json.dumps(EXPERIMENTS[order["do"]](order)), flush=True)


if __name__ == "__main__":
    main()
