"""NVIDIA Dynamo's own router in this process: `SelectionService` of ai-dynamo-runtime, asked and waited for.

Its calls return futures that want an event loop; whoever decides has none, or is inside its own. So a thread keeps one.
Nothing here opens a socket: workers send no events, and what the router knows of them is what it is told here.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from scheduler import PolicyError, RejectedError

DEADLINE_S = 20.0
"""Of one call. A policy's own limit, `policy_limit_s`, ends it sooner."""

LOOK_S = 0.001
"""Between two looks at what the router knows already."""

REMEDY = "`make routers` installs it (docs/explanation/real-routers.md)"


def load_dynamo() -> Any:
    """The compiled module of ai-dynamo-runtime. PolicyError with the remedy where it is not there, or not whole."""
    os.environ["DYN_ROUTER_USE_KV_EVENTS"] = "false"  # read once; otherwise every worker needs an endpoint for events
    os.environ.setdefault("DYN_LOG", "error")
    try:
        return importlib.import_module("dynamo._core")
    except ModuleNotFoundError as missing:
        raise PolicyError(f"policy: Dynamo's router is not installed: {REMEDY}") from missing
    except ImportError as broken:
        raise PolicyError(f"policy: Dynamo's router is only half installed ({broken}): {REMEDY}") from broken


class SelectionPool:
    """One pool of workers of one model, and the requests that hold blocks on them."""

    def __init__(self) -> None:
        core = load_dynamo()
        self._refused = core.SelectionServiceError
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="dynamo-router", daemon=True)
        thread.start()
        self._service = core.SelectionService(indexer_threads=1)
        self._end = weakref.finalize(self, _shut_down, self._service, self._loop, thread)

    def add_worker(self, worker_id: int, block_tokens: int, **fields: Any) -> None:
        """Register a worker, or change its record: `taints`, `topology_domains`, `total_kv_blocks`."""
        endpoint = f"http://d{worker_id}"  # its name; nobody connects to it
        self._ask(
            self._service.upsert_worker,
            {"worker_id": worker_id, "endpoint": endpoint, "block_size": block_tokens, **fields},
        )

    def await_workers(self, count: int) -> None:
        """Wait until so many workers can be chosen and booked: the router learns of them after it has been told."""
        until_s = time.monotonic() + DEADLINE_S
        while self._service.ready()["schedulable_workers"] < count or len(self.decode_blocks()) < count:
            if time.monotonic() > until_s:
                raise TimeoutError(f"Dynamo's router knows {self._service.ready()} of {count} workers")
            time.sleep(LOOK_S)

    def select(self, request: dict[str, Any]) -> int:
        """The worker of a request. RejectedError when the router finds none."""
        try:
            return int(self._ask(self._service.select, request)["worker_id"])
        except self._refused as problem:
            raise RejectedError(f"Dynamo's router: {problem}") from problem

    def reserve(self, reservation: dict[str, Any]) -> None:
        """Book a request's blocks on a worker that was chosen for it.

        Without `block_hashes`: from these the router would guess what is cached, and forget it by the wall clock.
        """
        self._ask(self._service.create_reservation, reservation)

    def prefill_complete(self, selection_id: str) -> None:
        """The request decodes from now on."""
        self._ask(self._service.prefill_complete, selection_id)

    def add_output_block(self, selection_id: str) -> None:
        """The request's answer holds another block."""
        self._service.add_output_block(selection_id)

    def free(self, selection_id: str) -> None:
        """The request holds nothing any more."""
        self._ask(self._service.free_reservation, selection_id)

    def decode_blocks(self) -> dict[int, int]:
        """The blocks that the router counts on each worker, by worker; none for a worker that it has not used."""
        loads = (load for group in self._service.loads() for load in group["loads"])
        return {load["worker_id"]: load["potential_decode_blocks"] for load in loads}

    def _ask(self, call: Callable[..., Awaitable[Any]], *given: Any) -> Any:
        async def asked() -> Any:
            return await call(*given)

        return asyncio.run_coroutine_threadsafe(asked(), self._loop).result(DEADLINE_S)


def _shut_down(service: Any, loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    service.shutdown()
    loop.call_soon_threadsafe(loop.stop)
    thread.join(DEADLINE_S)
    loop.close()
