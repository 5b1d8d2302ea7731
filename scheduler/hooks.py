"""What a policy is told of a request after it has chosen: optional methods of its own, looked up once a run.

    placed(request, decode_id)        the request is booked there; every other step follows this one
    transferred(request, decode_id)   its KV has arrived
    admitted(request, decode_id)      it has joined the batch
    token_block(request, decode_id)   a token of its answer has begun another block of KV
    finished(request, decode_id)      it has left: completed, failed or turned away by the instance

`placed` and `finished` come once each for every time that a request is placed, and twice for one that is tried again. A
policy that keeps books of its own changes them here and not in `select`: whoever asks it need not follow its answer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

from scheduler.errors import PolicyError
from scheduler.time_limit import TimeLimitPassed, time_limit
from workloads import Request

HOOKS = ("placed", "transferred", "admitted", "token_block", "finished")

Hook = Callable[[Request, int], object]


class Hooks:
    """The hooks that a policy has."""

    def __init__(self, found: dict[str, Hook], name: str, limit_s: float | None) -> None:
        self._found = found
        self._name = name
        self._limit_s = limit_s

    def __contains__(self, step: str) -> bool:
        """Whether the policy wants to be told of that step."""
        return step in self._found

    def tell(self, step: str, request: Request, decode_id: int) -> None:
        """Tell the policy, if it wants to know. PolicyError when it raises, or takes longer than its limit."""
        hook = self._found.get(step)
        if hook is None:
            return
        number = request.request_id
        try:
            with nullcontext() if self._limit_s is None else time_limit(self._limit_s):
                hook(request, decode_id)
        except TimeLimitPassed:
            raise PolicyError(
                f"policy {self._name} took longer than {self._limit_s:g} s in {step} of request {number}"
            ) from None
        except (Exception, SystemExit) as problem:  # a user's code may raise anything
            said = f"{type(problem).__name__}: {problem}"
            raise PolicyError(f"policy {self._name} failed in {step} of request {number}: {said}") from problem


def hooks_of(policy: object, name: str, limit_s: float | None) -> Hooks | None:
    """The hooks of a policy; None where it has none, so that nobody need be asked at every step."""
    found = {step: hook for step in HOOKS if callable(hook := getattr(policy, step, None))}
    return Hooks(found, name, limit_s) if found else None


def tokens_that_begin_a_block(request: Request) -> range:
    """Which tokens of an answer, counted from 1, begin a block of KV: those that follow a full one, the prompt's too.

    As a router counts that sees them stream by: ai-dynamo/dynamo, lib/llm/src/kv_router, `OutputBlockTracker`.
    """
    size = request.block_tokens
    return range(1 + -request.input_length % size, request.output_length + 1, size)
