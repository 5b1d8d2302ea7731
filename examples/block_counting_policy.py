"""A policy with books of its own: the fewest blocks of KV, prompts and answers, counted by its hooks.

cd examples
netkv run --world analytic --policy block_counting_policy:FewestBlocks --out ../results/fewest-blocks
"""

from collections import Counter


class FewestBlocks:
    def __init__(self):
        self.blocks_at = Counter()  # by decode instance
        self.blocks_of = {}  # by request

    def select(self, request, candidates, view):
        return candidates.best([self.blocks_at[number] for number in candidates.decode_id.tolist()])

    def placed(self, request, decode_id):
        self._add(request, decode_id, -(-request.input_length // request.block_tokens))

    def token_block(self, request, decode_id):
        self._add(request, decode_id, 1)

    def finished(self, request, decode_id):
        self.blocks_at[decode_id] -= self.blocks_of.pop(request.request_id)

    def _add(self, request, decode_id, blocks):
        self.blocks_of[request.request_id] = self.blocks_of.get(request.request_id, 0) + blocks
        self.blocks_at[decode_id] += blocks
