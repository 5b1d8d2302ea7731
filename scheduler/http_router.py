"""A router under test behind HTTP: a policy that asks it for each decision (`scheduler.routing_exchange`).

One POST a decision over one connection that is kept. No redirect is followed, no proxy asked, and an answer has a
largest size. Whatever goes wrong is a PolicyError that says what was sent, what came back and what to do; where the
router is, the policy's name says.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException

from scheduler.candidates import Candidates
from scheduler.errors import PolicyError
from scheduler.router_url import RouterUrl
from scheduler.routing_exchange import ANSWER, LONGEST_ANSWER_BYTES, answer, question, shown
from scheduler.time_limit import TimeLimitPassed
from scheduler.view import View
from workloads import Request

Dial = Callable[[tuple[str, int], float], socket.socket]
"""Opens a TCP connection to (host, port) within some seconds, as `socket.create_connection` does. OSError if not."""

DEFAULT_LIMIT_S = 5.0

UNWATCHED_S = 1.0
"""Where no alarm can interrupt a decision (`scheduler.time_limit`), each wait for the router ends so much after the
limit."""

TRY_IT = "`netkv policy check` tells more"


class HttpRouter:
    """Asks the router at `url`. `limit_s`: longest decision, seconds; `dial` opens its TCP connections.

    PolicyError when it cannot be reached. `reason`: what the router said of its last choice.
    """

    def __init__(self, url: RouterUrl, limit_s: float = DEFAULT_LIMIT_S, dial: Dial = socket.create_connection) -> None:
        self._url = url
        self._limit_s = limit_s
        self._connection = _Connection(url, limit_s + UNWATCHED_S, dial)
        self.reason = ""
        try:
            self._connection.connect()
        except OSError as problem:
            said = f"policy: {url.text}: no connection: {_cause(problem)} (start the router first)"
            raise PolicyError(said) from None

    @property
    def connections(self) -> int:
        """How many connections have been opened so far: 1 where the router keeps them."""
        return self._connection.opened

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        return self.choice(self.body_of(request, candidates, view))

    def body_of(self, request: Request, candidates: Candidates, view: View) -> bytes:
        """What asks for this decision."""
        asked = question(request, candidates, view, snapshot=self._url.snapshot)
        return json.dumps(asked, allow_nan=False, separators=(",", ":")).encode()

    def choice(self, body: bytes) -> int:
        """The instance that is chosen in answer to a body; `reason` is that of this choice."""
        self.reason = ""
        choice = answer(self.post(body))
        self.reason = choice.reason
        return choice.decode_id

    def post(self, body: bytes) -> bytes:
        """Send a body and return that of the answer 200. PolicyError when none comes, or another."""
        sent = f"a POST of {len(body):,} bytes"
        try:
            status, phrase, location, found = self._exchange(body)
        except (TimeLimitPassed, TimeoutError):
            self._connection.close()
            limit = f"answer faster, or raise policy_limit_s; {TRY_IT}"
            raise PolicyError(f"{sent} had no whole answer within {self._limit_s:g} s ({limit})") from None
        except (OSError, HTTPException) as problem:
            self._connection.close()
            raise PolicyError(f"{sent} had no HTTP answer: {_cause(problem)} (does the router run? {TRY_IT})") from None
        if len(found) > LONGEST_ANSWER_BYTES:
            self._connection.close()
            raise PolicyError(f"{sent} was answered with over {LONGEST_ANSWER_BYTES:,} bytes ({ANSWER} is expected)")
        if 300 <= status < 400:
            to = f" to {location[:80]!r}" if location else ""
            raise PolicyError(f"{sent} was redirected{to} ({status}), which is not followed (give that address)")
        if status != 200:
            wanted = f"200 and {ANSWER} are expected; {TRY_IT}"
            raise PolicyError(f"{sent} was answered {status} {phrase[:40]}: {shown(found)} ({wanted})")
        return found

    def close(self) -> None:
        """End the connection; the next decision opens another."""
        self._connection.close()

    def _exchange(self, body: bytes) -> tuple[int, str, str, bytes]:
        """Ask, and once more where a connection that was kept turns out to be closed (RFC 9112, section 9.3.1)."""
        if self._connection.sock is not None:
            try:
                return self._ask(body)
            except ConnectionError:
                self._connection.close()
        return self._ask(body)

    def _ask(self, body: bytes) -> tuple[int, str, str, bytes]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        self._connection.request("POST", self._url.target, body, headers)
        with self._connection.getresponse() as response:
            found = response.read(LONGEST_ANSWER_BYTES + 1)
            return response.status, response.reason, response.getheader("Location") or "", found


class _Connection(HTTPConnection):
    """HTTP/1.1 over TCP or a Unix socket."""

    def __init__(self, url: RouterUrl, timeout_s: float, dial: Dial) -> None:
        super().__init__(url.authority)
        self._url = url
        self._timeout_s = timeout_s
        self._dial = dial
        self.opened = 0

    def connect(self) -> None:
        if self._url.socket:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self._timeout_s)
            try:
                self.sock.connect(self._url.socket)
            except BaseException:
                self.close()
                raise
        else:
            self.sock = self._dial((self._url.host, self._url.port), self._timeout_s)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.opened += 1


def _cause(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.errno and problem.errno > 0:
        return os.strerror(problem.errno)
    return " ".join(str(problem).split()) or type(problem).__name__
