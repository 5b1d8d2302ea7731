"""NVIDIA Dynamo's KV router choosing a decode worker: the real one, of which `dynamo_decode` is our reading.

`DynamoRouter` is the router by itself, `DynamoRouterTopology` with its static preference for a domain of the network,
`DynamoRouterNetkv` with NetKV-Full's costs told to it as weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from routers.selection_service import SelectionPool, load_dynamo
from scheduler import Candidates, CostModel, View, find_policy
from workloads import Request

DECODE = {"overlap_score_credit": 0.0, "track_prefill_tokens": False}
"""What Dynamo itself sets for decode in a disaggregated set-up, with `assume_kv_reuse` (lib/llm/src/kv_router)."""

SERVER, RACK, POD = "server", "rack", "pod"
DOMAINS = (SERVER, RACK, POD)
"""By the highest tier in them: 0, 1, 2."""

OWN_BITS = 32
"""More blocks than 2^32 has no prompt; the rest of a 64-bit number is the request's."""

STRONGEST = 1 - 1e-4
"""Most that tanh of a weight is asked to be: a weight is a number of 32 bits, and of 1 there is none."""


class DynamoRouter:
    """Whatever `SelectionService` of ai-dynamo-runtime chooses, with what its disaggregated decode path sets.

    Workers are registered with blocks of the trace's size; a request is its complete blocks by their numbers in the
    trace. A reservation stands from the decision until the request has left. `output_blocks` 1 reports every block that
    an answer begins, as where Dynamo's `router_track_output_blocks` is on; by default it is off. `temperature` and
    `reuse` (`assume_kv_reuse`, 0 or 1) go with every request.
    """

    unrepeatable = "Dynamo's router breaks ties at random and takes no seed"

    def __init__(self, temperature: float = 0.0, reuse: float = 0.0, output_blocks: float = 0.0) -> None:
        self._override = {**DECODE, "router_temperature": temperature, "assume_kv_reuse": bool(reuse)}
        self._reuse = bool(reuse)
        self._pool = SelectionPool()
        self._known = False
        if output_blocks:
            self.token_block = self._add_output_block  # a hook that nobody needs would have every block reported

    @staticmethod
    def require() -> None:
        """PolicyError, with the remedy, where Dynamo's router is not installed."""
        load_dynamo()

    def select(self, request: Request, candidates: Candidates, view: View) -> int:
        if not self._known:
            self._register(request, candidates, view)
        able = candidates.decode_id[candidates.feasible]
        asked = {"allowed_worker_ids": able.tolist(), "block_hashes": _blocks(request), **self._sequence(request)}
        return self._pool.select({**asked, "routing_constraints": self._constraints(request, candidates, view)})

    def placed(self, request: Request, decode_id: int) -> None:
        worker = {"selection_id": _name(request), "worker_id": decode_id, "dp_rank": 0}
        self._pool.reserve({**worker, **self._sequence(request)})

    def transferred(self, request: Request, decode_id: int) -> None:
        self._pool.prefill_complete(_name(request))

    def _add_output_block(self, request: Request, decode_id: int) -> None:
        self._pool.add_output_block(_name(request))

    def finished(self, request: Request, decode_id: int) -> None:
        self._pool.free(_name(request))

    def decode_blocks(self) -> dict[int, int]:
        """The blocks that the router counts on each worker, by worker."""
        return self._pool.decode_blocks()

    def _sequence(self, request: Request) -> dict[str, Any]:
        """The blocks that the request will hold. Blocks of one number are held once: without reuse, all are new ones.

        As Dynamo draws random numbers for them then (lib/kv-router, `assume_kv_reuse`); ours are the request's own.
        """
        blocks = _blocks(request)
        own = request.request_id + 1 << OWN_BITS
        held = blocks if self._reuse else list(range(own, own + len(blocks)))
        return {"sequence_hashes": held, "isl_tokens": request.input_length, "router_config_override": self._override}

    def _register(self, request: Request, candidates: Candidates, view: View) -> None:
        self._known = True
        for decode_id in candidates.decode_id.tolist():
            domains = domains_of(view, decode_id)
            taints = [own_taint(decode_id), *(domain_taint(name, value) for name, value in domains.items())]
            self._pool.add_worker(decode_id, request.block_tokens, topology_domains=domains, taints=taints)
        self._pool.await_workers(len(candidates))

    def _constraints(self, request: Request, candidates: Candidates, view: View) -> dict[str, Any]:
        """Dynamo's RoutingConstraints: taints required, and weights of taints preferred (above 0) or avoided."""
        return {}


class DynamoRouterTopology(DynamoRouter):
    """With the policy of KV transfers by topology: workers in the domain of the prefill worker are preferred.

    `domain` is the highest tier in it: 0 the server, 1 the rack, 2 the pod. `required` 1: only they are eligible, and a
    request for which none is left is turned away. Otherwise `preferred` is the weight, by which their cost counts
    exp(-tanh(weight)); 0.85 is the example of Dynamo's documentation (Topology-Aware KV Transfer).
    """

    def __init__(
        self,
        temperature: float = 0.0,
        reuse: float = 0.0,
        output_blocks: float = 0.0,
        preferred: float = 0.85,
        required: float = 0.0,
        domain: float = 1.0,
    ) -> None:
        super().__init__(temperature, reuse, output_blocks)
        self._preferred = preferred
        self._required = bool(required)
        self._domain = DOMAINS[int(domain)]

    def _constraints(self, request: Request, candidates: Candidates, view: View) -> dict[str, Any]:
        # As its prefill router derives them from the record of the prefill worker, which is in a pool of its own.
        taint = domain_taint(self._domain, domains_of(view, candidates.prefill_id)[self._domain])
        return {"required_taints": [taint]} if self._required else {"preferred_taints": {taint: self._preferred}}


class DynamoRouterNetkv(DynamoRouter):
    """With the costs of NetKV-Full told as weights: each worker has a taint of its own, each request a weight for it.

    Dynamo multiplies a worker's blocks by exp(-tanh(weight)), 0.37 to 2.72. The weight is such that this factor is

        (1 / e) (cost / least cost) ^ sharpness, at most e

    with the cost in seconds of `netkv_full`: the widest range that the interface has, from its lower end.
    """

    def __init__(
        self, temperature: float = 0.0, reuse: float = 0.0, output_blocks: float = 0.0, sharpness: float = 1.0
    ) -> None:
        super().__init__(temperature, reuse, output_blocks)
        self._sharpness = sharpness
        model = find_policy("netkv_full")()
        assert isinstance(model, CostModel)
        self._model = model

    def cost_factor(self, request: Request, candidates: Candidates, view: View) -> NDArray[np.float64]:
        """The factor that is asked for each candidate, shape [D]."""
        cost_s = self._model.cost_terms(request, candidates, view).total_s
        worse = np.log(cost_s / cost_s[candidates.feasible].min())
        factor: NDArray[np.float64] = np.exp(np.clip(self._sharpness * worse - 1, -1, 1))
        return factor

    def _constraints(self, request: Request, candidates: Candidates, view: View) -> dict[str, Any]:
        squashed = np.clip(-np.log(self.cost_factor(request, candidates, view)), -STRONGEST, STRONGEST)
        weights = np.arctanh(squashed).tolist()
        numbers = candidates.decode_id.tolist()
        return {"preferred_taints": {own_taint(at): weight for at, weight in zip(numbers, weights, strict=True)}}


def domains_of(view: View, instance: int) -> dict[str, str]:
    """Where an instance stands, as a record of Dynamo's says it: each domain by its own name in the whole fabric."""
    pod, rack, server = view.place[instance].tolist()
    return {POD: f"{pod}", RACK: f"{pod}-{rack}", SERVER: f"{pod}-{rack}-{server}"}


def domain_taint(domain: str, value: str) -> str:
    """The taint that Dynamo's runtime gives a worker for each of its domains; `SelectionService` wants it said."""
    return f"dynamo.topology/{domain}={value}"


def own_taint(decode_id: int) -> str:
    """The taint that one worker alone has."""
    return f"netkv/instance={decode_id}"


def _name(request: Request) -> str:
    return str(request.request_id)


def _blocks(request: Request) -> list[int]:
    """A prompt's complete blocks by their numbers in the trace, each of which stands for everything before it, too."""
    return list(request.block_ids[: request.input_length // request.block_tokens])
