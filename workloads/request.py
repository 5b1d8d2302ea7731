"""One request as a trace states it."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK_TOKENS = 512
"""Tokens of a prefix block (Mooncake trace format, FAST25 release), where nothing else is said."""


class WorkloadError(ValueError):
    """A workload that cannot be read or made; the message names the file, line and field where there is one."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: arrival in seconds from the start of the run, lengths in tokens, and its prefix blocks.

    `block_ids[k]` identifies block k, of `block_tokens` tokens, together with everything before it (Mooncake's
    `hash_ids`): two requests share their first n blocks exactly when their first n ids are equal. The last block may be
    shorter. No ids: the prompt shares nothing.

    `session`: the conversation that it is a turn of, or "". With a `delay_s` it arrives so many seconds after the last
    token of the answer to the turn before (a closed loop), and `timestamp_s` is a forecast.
    """

    request_id: int
    timestamp_s: float
    input_length: int
    output_length: int
    block_ids: tuple[int, ...]
    block_tokens: int = BLOCK_TOKENS
    session: str = ""
    delay_s: float | None = None
