"""What the ids of prefix blocks prove: an id stands for its block and for everything before it."""

from __future__ import annotations

from dataclasses import dataclass

BELOW_ALL_HASHES = -(1 << 130)
"""Ids that are made here count down from this: no trace has them."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A prompt's blocks: ids that keep what was claimed apart from what is proved; `hit_tokens`: tokens that earlier
    prompts had at their start; `conflict`: the first block whose id contradicts an earlier line, and how, or ""."""

    ids: tuple[int, ...]
    hit_tokens: int
    conflict: str = ""


class PrefixChains:
    """The blocks of the prompts so far, each with the one before it and the tokens that it holds.

    An id after another parent, or of another length, is not the block that was seen: it gets an id of its own, and so
    does all that follows it. `remembered`: how many blocks to keep, the ones used last; None keeps all.
    """

    def __init__(self, remembered: int | None = None) -> None:
        self._half = None if remembered is None else remembered // 2
        self._parent: dict[int, int | None] = {}
        self._older: dict[int, int | None] = {}
        self._short: dict[int, int] = {}
        self._apart: dict[tuple[int | None, int, int], int] = {}
        self._made = 0
        self.forgot = False
        """Whether blocks have been forgotten, so that `hit_tokens` may be too few."""

    def follow(self, ids: tuple[int, ...], input_length: int, block_tokens: int) -> Chain:
        """Add a prompt of `input_length` tokens, whose blocks have `block_tokens` each, the last one what is left."""
        found: list[int] = []
        parent: int | None = None
        hit_tokens, hitting, conflict = 0, True, ""
        for k, given in enumerate(ids):
            held = min(block_tokens, input_length - k * block_tokens)
            block, known = given, self._knows(given)
            if known and (self._parent[given] != parent or self._short.get(given, block_tokens) != held):
                if not conflict:
                    where = "after another block" if self._parent[given] != parent else f"with other than {held} tokens"
                    conflict = f"the id of block {k + 1} was seen before {where}"
                block = self._named_apart((parent, given, held))
                known = self._knows(block)
            if not known:
                self._add(block, parent, held if held < block_tokens else None)
            hitting = hitting and known
            hit_tokens += held if hitting else 0
            found.append(block)
            parent = block
        self._forget()
        return Chain(tuple(found), hit_tokens, conflict)

    def _named_apart(self, key: tuple[int | None, int, int]) -> int:
        if key not in self._apart:
            self._apart[key] = BELOW_ALL_HASHES - self._made
            self._made += 1
        return self._apart[key]

    def _knows(self, block: int) -> bool:
        if block in self._parent:
            return True
        if block in self._older:
            self._parent[block] = self._older.pop(block)
            return True
        return False

    def _add(self, block: int, parent: int | None, short: int | None) -> None:
        self._parent[block] = parent
        if short is not None:
            self._short[block] = short

    def _forget(self) -> None:
        if self._half is None or len(self._parent) <= self._half:
            return
        self.forgot = self.forgot or bool(self._older)
        self._older, self._parent = self._parent, {}
        self._short = {block: held for block, held in self._short.items() if block in self._older}
        self._apart = {key: block for key, block in self._apart.items() if block in self._older}
