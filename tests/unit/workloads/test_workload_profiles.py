"""What the generator draws, against the figures that its profiles state."""

from typing import NamedTuple

import numpy as np
import pytest

from scenario import Scenario, WorkloadSpec, load_requests
from workloads import BLOCK_TOKENS, PROFILES, Request, generate, log_normal_lengths
from workloads.profiles import PERCENTILES

COUNT = 12_031
"""As many requests as the conversation trace holds."""


class Shape(NamedTuple):
    inputs: np.ndarray
    outputs: np.ndarray
    hit_blocks: np.ndarray  # leading blocks that some earlier request had too
    blocks: np.ndarray

    @property
    def hit_share(self) -> float:
        """Blocks that a prefix cache without an end would have held."""
        return float(self.hit_blocks.sum() / self.blocks.sum())


def shape_of(requests: list[Request]) -> Shape:
    seen: set[int] = set()
    hits = []
    for request in requests:
        hits.append(
            next((at for at, block in enumerate(request.block_ids) if block not in seen), len(request.block_ids))
        )
        seen.update(request.block_ids)
    columns = zip(*((r.input_length, r.output_length, len(r.block_ids)) for r in requests), strict=True)
    inputs, outputs, blocks = (np.array(column) for column in columns)
    return Shape(inputs, outputs, np.array(hits), blocks)


def drawn(profile: str, seed: int = 0, count: int = COUNT, sharing: float | None = None) -> Shape:
    return shape_of(generate(profile, count, 1.0, np.random.default_rng(seed), sharing))


@pytest.mark.parametrize("seed", range(3))
def test_conversation_fits_the_mooncake_trace(seed: int) -> None:
    """The trace: inputs 6,909/27,367/85,401, mean 12,035; outputs 350/597/1,120, mean 343; 36.64 % of blocks hit."""
    shape = drawn("conversation", seed)
    assert shape.inputs.mean() == pytest.approx(12_035, rel=0.03)
    assert np.percentile(shape.inputs, [50, 90, 99]) == pytest.approx([6_909, 27_367, 85_401], rel=0.05)
    assert shape.outputs.mean() == pytest.approx(343, rel=0.03)
    assert np.percentile(shape.outputs, [50, 90, 99]) == pytest.approx([350, 597, 1_120], rel=0.05)
    assert shape.hit_share == pytest.approx(0.3664, abs=0.015)
    assert np.mean(shape.hit_blocks == 1) == pytest.approx(0.61, abs=0.02)


def test_conversation_starts_without_a_past() -> None:
    """Of the trace's first 200 requests 3.5 % share more than block 0, of its first 1,000 22 %."""
    assert np.mean(drawn("conversation", count=200).hit_blocks > 1) < 0.1
    assert np.mean(drawn("conversation", count=1000).hit_blocks > 1) == pytest.approx(0.22, abs=0.05)


def test_chatbot_has_azures_prompts_and_sharegpts_answers() -> None:
    shape = drawn("chatbot")
    assert np.median(shape.inputs) == pytest.approx(1_020, rel=0.06)
    assert shape.outputs.mean() == pytest.approx(338, rel=0.05)


def test_rag_asks_few_documents_most_of_the_time() -> None:
    """RAGCache: 3 % of the documents take 60 % of the requests."""
    rag = PROFILES["rag"]
    weights = np.arange(1, rag.documents + 1) ** -rag.document_skew
    assert weights[: round(0.03 * rag.documents)].sum() / weights.sum() == pytest.approx(0.60, abs=0.01)
    assert drawn("rag").hit_share == pytest.approx(0.65, abs=0.03)  # what follows, not a figure of RAGCache's


def test_long_context_is_about_long_documents() -> None:
    """LooGLE: over 24,000 tokens a document."""
    shape = drawn("long_context")
    assert np.median(shape.inputs) == pytest.approx(25_000, rel=0.05)
    assert shape.inputs.mean() > 24_000
    assert shape.inputs.max() <= 120_000


def test_sharing_can_be_set() -> None:
    hits = [drawn("rag", count=3000, sharing=sharing).hit_share for sharing in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert hits == sorted(hits)
    assert hits[0] < 0.1  # the system prompt alone
    assert hits[-1] > 0.6


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_well_formed(name: str) -> None:
    profile = PROFILES[name]
    for table in (profile.first_input, profile.continued_input, profile.output, profile.shared_fraction):
        assert len(table) == len(PERCENTILES)
        assert list(table) == sorted(table)
    assert profile.source
    for request in generate(name, 500, 1.0, np.random.default_rng(2)):
        assert len(request.block_ids) == -(-request.input_length // BLOCK_TOKENS)
        assert len(set(request.block_ids)) == len(request.block_ids)


def test_a_scenario_takes_rate_and_objective_from_its_profile() -> None:
    chat = Scenario(workload=WorkloadSpec(profile="chatbot"))
    assert (chat.workload.rate_rps, chat.slo.ttft_s, chat.slo.tpot_s) == (16.0, 0.5, 0.05)
    given = Scenario.model_validate({"workload": {"profile": "rag", "rate_rps": 2.0}, "slo": {"ttft_s": 9.0}})
    assert (given.workload.rate_rps, given.slo.ttft_s, given.slo.tpot_s) == (2.0, 9.0, 0.1)
    assert Scenario.model_validate(chat.model_dump(mode="json")) == chat
    slow = load_requests(Scenario(workload=WorkloadSpec(profile="long_context", requests=300)))
    assert slow[-1].timestamp_s == pytest.approx(300 / 0.9, rel=0.2)


@pytest.mark.parametrize(("mean", "sigma"), [(8_400, 0.85), (1_000, 0.5), (30_000, 0.9)])
def test_log_normal_lengths_have_the_mean_and_the_tail_that_are_asked_for(mean: float, sigma: float) -> None:
    lengths = log_normal_lengths(mean, sigma)
    inputs = shape_of(generate("rag", COUNT, 1.0, np.random.default_rng(0), 0.5, lengths)).inputs
    assert inputs.mean() == pytest.approx(mean, rel=0.03)
    tail = mean * np.exp(2.326 * sigma - sigma**2 / 2)
    assert np.percentile(inputs, 99) == pytest.approx(tail, rel=0.08)


def test_without_a_spread_every_prompt_has_the_same_length() -> None:
    workload = WorkloadSpec(mean_input_tokens=4096, input_spread=0, requests=50)
    assert {request.input_length for request in load_requests(Scenario(workload=workload))} == {4096}
