"""The embedded workloads as data: lengths, sharing, rate and objective of each profile, and the source of each figure.

`conversation` is measured: quantiles of the 12,031 requests of `conversation_trace.jsonl` (Mooncake FAST25 release,
Apache-2.0), which is itself not shipped. The other three are composed: the figures that a source states are named in
`source`, everything else (the log-normal shapes above all) is our choice. `generator` draws from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

PERCENTILES = (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 100)

Table = tuple[float, ...]
"""The values of a distribution at `PERCENTILES`."""


@dataclass(frozen=True)
class Profile:
    """The distributions of a workload; lengths in tokens, a Table holds one value for each of `PERCENTILES`.

    `continues`: share of requests, 0-1, that extend an earlier prompt; such a request takes its length from
    `continued_input` (others: `first_input`) and shares `shared_fraction` of its blocks, either with the request
    `reuse_distance` requests ago (where `documents` is 0) or with one of that many documents, drawn by Zipf's law of
    exponent `document_skew`. `coupling`: probability that the shared fraction has the rank of the length, so that
    longer prompts share more. `rate_rps`: requests/s that the default fabric serves without overload. `ttft_s`,
    `tpot_s`: the service-level objective, seconds. `source`: where the figures come from.
    """

    name: str
    source: str
    first_input: Table
    continued_input: Table
    output: Table
    continues: float
    shared_fraction: Table
    rate_rps: float
    ttft_s: float
    tpot_s: float
    reuse_distance: Table = ()
    coupling: float = 0.0
    documents: int = 0
    document_skew: float = 1.0


def log_normal(median: float, mean: float, least: float, most: float) -> Table:
    """The table of a log-normal distribution of that median and mean, cut at both ends."""
    sigma = math.sqrt(2 * math.log(mean / median))
    inner = (median * math.exp(sigma * NormalDist().inv_cdf(percent / 100)) for percent in PERCENTILES[1:-1])
    return (least, *(min(max(value, least), most) for value in inner), most)


LONGEST_IN_SIGMAS = 3.5
"""`log_normal_lengths` is cut there: one request in 4,300 would be longer."""


def log_normal_lengths(mean: float, sigma: float) -> Table:
    """The table of log-normal lengths of that mean, tokens, and sigma of their logarithm; at least 1 token."""
    median = mean * math.exp(-(sigma**2) / 2)
    least, most = (median * math.exp(end * LONGEST_IN_SIGMAS * sigma) for end in (-1, 1))
    inner = (median * math.exp(sigma * NormalDist().inv_cdf(percent / 100)) for percent in PERCENTILES[1:-1])
    return tuple(max(value, 1.0) for value in (least, *inner, most))


# fmt: off
_CONVERSATION = Profile(
    name="conversation",
    source="Mooncake conversation trace (FAST25 release): quantiles of lengths, sharing and reuse distance. "
           "Objective: TTFT 5 s is ours, three times the unloaded median; TBT 100 ms is Mooncake's strictest.",
    first_input=(891, 897, 905, 1092, 1757, 3913, 5264, 7418, 10771, 15871, 25559, 38494, 67126, 89868, 111632, 126195),
    continued_input=(
        892, 1634, 2102, 3455, 5502, 7507, 9873, 12556, 15780, 20219, 28908, 40992, 65839, 79133, 94868, 123194),
    output=(1, 10, 24, 100, 213, 291, 350, 399, 447, 504, 597, 698, 892, 1119, 1568, 2000),
    continues=0.41,  # of which 6 % go back before the first request: 38.7 % in the trace share more than block 0
    shared_fraction=(
        0.015, 0.143, 0.286, 0.5, 0.6, 0.7, 0.8, 0.867, 0.917, 0.944, 0.971, 0.983, 0.99, 1.0, 1.0, 1.0),
    reuse_distance=(5, 100, 141, 204, 257, 324, 422, 550, 757, 1087, 1661, 2129, 3700, 5105, 7000, 10514),
    coupling=0.25,  # fitted: blocks of continuing requests that are shared, 75.6 % in the trace
    rate_rps=3.4,
    ttft_s=5.0,
    tpot_s=0.1,
)
# fmt: on

_CHATBOT = Profile(
    name="chatbot",
    source="Short multi-turn chat. Answers: ShareGPT's mean of 338 tokens (PagedAttention, SOSP 2023, section 6.1). "
    "Prompts: median about 1,020 tokens, as in the Azure conversation trace (Splitwise, ISCA 2024). Ours: the shapes, "
    "a system prompt of one block, six turns in ten continuing. Objective: 500/50 ms, the example of Dynamo's planner.",
    first_input=log_normal(700, 900, 513, 8_000),
    continued_input=log_normal(1_300, 1_800, 600, 16_000),
    output=log_normal(240, 350, 1, 2_000),
    continues=0.6,
    shared_fraction=log_normal(0.8, 0.82, 0.3, 1.0),
    reuse_distance=log_normal(400, 600, 20, 5_000),
    rate_rps=16.0,
    ttft_s=0.5,
    tpot_s=0.05,
)

_RAG = Profile(
    name="rag",
    source="Retrieval-augmented answers. 3 % of the documents take 60 % of the requests (RAGCache, arXiv 2404.12457): "
    "Zipf of exponent 1.07 over 1,000 documents. Ours: lengths (a dozen passages of one block), short answers, one "
    "request in ten without a shared document. Objective: TTFT 2 s is ours, TBT 100 ms Mooncake's strictest.",
    first_input=log_normal(5_000, 5_500, 1_024, 16_000),
    continued_input=log_normal(6_000, 6_500, 1_024, 24_000),
    output=log_normal(150, 200, 1, 1_000),
    continues=0.9,
    shared_fraction=log_normal(0.8, 0.82, 0.3, 1.0),
    documents=1_000,
    document_skew=1.07,
    rate_rps=6.0,
    ttft_s=2.0,
    tpot_s=0.1,
)

_LONG_CONTEXT = Profile(
    name="long_context",
    source="Questions about long documents, over 24,000 tokens each on average (LooGLE, arXiv 2311.04939). Ours: the "
    "shape and the cut at 120,000 tokens, 300 documents by Zipf of exponent 1, half of the requests about one of them. "
    "Objective: TTFT 15 s is ours, half of Mooncake's 30 s; TBT 100 ms is Mooncake's strictest.",
    first_input=log_normal(24_000, 30_000, 4_096, 120_000),
    continued_input=log_normal(26_000, 32_000, 4_096, 120_000),
    output=log_normal(150, 220, 1, 2_000),
    continues=0.5,
    shared_fraction=log_normal(0.9, 0.91, 0.5, 1.0),
    documents=300,
    rate_rps=0.9,
    ttft_s=15.0,
    tpot_s=0.1,
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (_CONVERSATION, _CHATBOT, _RAG, _LONG_CONTEXT)}
