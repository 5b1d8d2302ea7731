"""The published shape of a model, and what follows from it: weights, FLOP of a prompt, bytes of KV and of a step."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from scenario.sections import Section


class ModelShape(Section):
    """A decoder with grouped-query attention and a gated feed-forward part, dense or of experts.

    The numbers are those of a model's published `config.json`. Norms, biases and an expert router are left out: less
    than a thousandth of the weights. Default: Llama-3-70B.
    """

    layers: int = Field(80, ge=1, description="Layers (`num_hidden_layers`), at least 1.")
    hidden: int = Field(8192, ge=1, description="Hidden size (`hidden_size`), at least 1.")
    heads: int = Field(64, ge=1, description="Query heads (`num_attention_heads`), at least 1.")
    kv_heads: int = Field(8, ge=1, description="Key and value heads (`num_key_value_heads`), at least 1.")
    head_dim: int = Field(128, ge=1, description="Size of a head (`head_dim`), at least 1.")
    intermediate: int = Field(
        28672, ge=1, description="Inner size of the feed-forward part, or of each expert (`moe_intermediate_size`)."
    )
    vocabulary: int = Field(128_256, ge=1, description="Tokens of the vocabulary (`vocab_size`), at least 1.")
    experts: int = Field(1, ge=1, description="Experts of a layer; 1: dense.")
    experts_active: int = Field(1, ge=1, description="Experts that a token passes, at most `experts`.")
    weight_bytes: float = Field(
        2.0, gt=0, le=8, allow_inf_nan=False, description="Bytes of a weight and of an element of KV: 2 for BF16."
    )

    @model_validator(mode="after")
    def _experts_exist(self) -> ModelShape:
        if self.experts_active > self.experts:
            raise ValueError(f"experts_active: {self.experts_active} of {self.experts} experts")
        return self

    @property
    def attention_weights(self) -> int:
        """Of one layer: the projections of queries, keys, values and output."""
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def expert_weights(self) -> int:
        """Of one expert, or of the feed-forward part of a dense layer: gate, up and down."""
        return 3 * self.hidden * self.intermediate

    @property
    def weights(self) -> int:
        """All weights, with the embeddings at both ends."""
        layer = self.attention_weights + self.experts * self.expert_weights
        return self.layers * layer + 2 * self.vocabulary * self.hidden

    @property
    def active_weights(self) -> int:
        """The weights of the layers that one token passes: without embeddings, which no prompt is multiplied by."""
        return self.layers * (self.attention_weights + self.experts_active * self.expert_weights)

    @property
    def kv_bytes_per_token(self) -> float:
        """A key and a value of each layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.weight_bytes

    def prefill_flop(self, tokens: int) -> float:
        """FLOP of a prompt: 2 x active weights a token, and causal attention.

        Each token is compared with those before it, n^2 / 2 pairs, and each pair takes 2 x head_dim FLOP a head for its
        score and as many for its value: 2 layers heads head_dim n^2 in all (Kaplan et al., arXiv 2001.08361, halved for
        the causal mask).
        """
        attention = 2.0 * self.layers * self.heads * self.head_dim * tokens**2
        return 2.0 * self.active_weights * tokens + attention

    def step_weights(self, batch: float) -> float:
        """The weights that a decode step of `batch` tokens reads: those of the experts that any of them passes.

        With each token's experts drawn evenly, one of E is passed by none of b tokens with (1 - k / E)^b.
        """
        passed = self.experts * (1.0 - math.pow(1.0 - self.experts_active / self.experts, batch))
        layer = self.attention_weights + passed * self.expert_weights
        return self.layers * layer + self.vocabulary * self.hidden

    def step_bytes(self, batch: float, context_tokens: float) -> float:
        """Bytes that a decode step reads: weights once, and the KV of every running request."""
        return self.weight_bytes * self.step_weights(batch) + batch * context_tokens * self.kv_bytes_per_token

    def step_flop(self, batch: float, context_tokens: float) -> float:
        """FLOP of a decode step, with the output layer."""
        attention = 4.0 * self.layers * self.heads * self.head_dim * context_tokens
        return batch * (2.0 * (self.active_weights + self.vocabulary * self.hidden) + attention)
