"""The KV memory of the decode instances, booked before KV moves: who has room, and who waits for it.

The rule is that of vLLM's KV connectors, where a decode instance allocates a request's blocks before it pulls the KV: a
request holds its memory while its KV is on the way, while it waits for a place in the batch, and until its last token.
As in the batch (`workers.batch`), a request holds the tokens of its prompt and of its whole answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class _Instance:
    free_tokens: int
    held: dict[int, int] = field(default_factory=dict)  # tokens by request
    waiting: deque[tuple[int, int]] = field(default_factory=deque)  # request, tokens


class DecodeMemory:
    """`tokens` of KV memory on each decode instance, given out first come first served.

    A request that does not fit blocks those behind it. No request may need more than all of an instance's memory.
    """

    def __init__(self, decode_ids: Iterable[int], tokens: int) -> None:
        self._tokens = tokens
        self._instances = {decode_id: _Instance(tokens) for decode_id in decode_ids}

    def ask(self, decode_id: int, request_id: int, tokens: int) -> bool:
        """Whether the request has its memory now; otherwise it waits and is named by a later `leave`."""
        instance = self._instances[decode_id]
        instance.waiting.append((request_id, tokens))
        return request_id in self._give(instance)

    def leave(self, decode_id: int, request_id: int) -> list[int]:
        """A request is over, whether it had memory or waited for it: who has memory now, in order."""
        instance = self._instances[decode_id]
        instance.free_tokens += instance.held.pop(request_id, 0)
        instance.waiting = deque(one for one in instance.waiting if one[0] != request_id)
        return self._give(instance)

    def clear(self, decode_id: int) -> None:
        """The instance has ended: nobody holds memory there, and nobody waits for it."""
        self._instances[decode_id] = _Instance(self._tokens)

    @staticmethod
    def _give(instance: _Instance) -> list[int]:
        given = []
        while instance.waiting and instance.waiting[0][1] <= instance.free_tokens:
            request_id, tokens = instance.waiting.popleft()
            instance.free_tokens -= tokens
            instance.held[request_id] = tokens
            given.append(request_id)
        return given
