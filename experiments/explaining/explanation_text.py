"""An explanation in words: a table of the instances, and the sentences that say why and with what regret."""

from __future__ import annotations

import math

from experiments.explaining.explanation import SAME_FIGURE, SAME_MS, CandidateCost, Explanation
from scheduler import reads_telemetry

SAME_SAMPLE_S = 5e-4
"""Samples of the links nearer in time than this are the same."""

TIERS = ("same server", "same rack", "same pod", "across pods")
HEAD = (
    f"{'':<16}{'predicted, ms':^35}{'in the fluid model, ms':^28}".rstrip(),
    f"{'to':>4}{'tier':>5}{'cached':>7}{'latency':>8}{'transfer':>9}{'wait':>5}{'step':>5}{'sum':>8}"
    f"{'transfer':>10}{'wait':>5}{'step':>5}{'sum':>8}",
)


def in_sentences(explanation: Explanation) -> str:
    """The whole explanation: what was decided, the table of the instances, and a sentence for each thing to say."""
    told = explanation
    lines = [
        f"{told.run}: request {told.request_id}, {told.input_length:,} tokens prefilled at instance {told.prefill_id}:"
        f" {told.policy} sent it to instance {told.chosen_id} ({_tier(told.chosen)}) at {told.decided_s:.3f} s.",
        "",
        *HEAD,
        *(_row(told, one) for one in told.candidates),
        "",
        _why(told),
        _telemetry(told),
        _regret(told),
        *_measured(told),
        *_differences(told),
    ]
    return "\n".join(lines)


def _row(told: Explanation, one: CandidateCost) -> str:
    mark = "*" if one.decode_id == told.chosen_id else ""
    return (
        f"{f'{mark}{one.decode_id}':>4}{one.tier:>5}{one.cached_tokens:>7}"
        f"{one.latency_ms:>8.2f}{one.transfer_ms:>9.1f}{one.admission_ms:>5.0f}{one.first_step_ms:>5.0f}"
        f"{one.predicted_ms:>8.1f}"
        f"{one.true_transfer_ms:>10.1f}{one.true_admission_ms:>5.0f}{one.true_first_step_ms:>5.0f}{one.true_ms:>8.1f}"
    )


def _tier(one: CandidateCost) -> str:
    return TIERS[one.tier]


def _why(told: Explanation) -> str:
    by_view = "" if told.own_terms else " The predictions are what its view of the network implies."
    if told.reason:
        return f"Why: {told.policy} says: {told.reason!r}.{by_view}"
    other = told.runner_up
    if not told.ranked:
        return f"Why: {told.policy} compares no figures of the instances.{by_view}"
    if other is None:
        return f"Why: no other instance could hold the request.{by_view}"
    lead, unit = (told.lead * 1e3, " ms") if told.own_terms else (told.lead, "")
    mine = told.chosen.figure
    figure = f"{mine * 1e3:.2f} ms" if told.own_terms else f"{mine:.6g}"
    noun = "cost" if told.own_terms else "figure"
    best = f"{'least' if told.better == 'lower' else 'highest'} {noun}"
    after = f"instance {other.decode_id} ({_tier(other)})"
    if abs(told.lead) <= SAME_FIGURE:
        how = "by tier and load, then at random" if told.better == "lower" else "at random"
        return f"Why: it has the {best}, {figure}, as has {after}; the tie went {how}.{by_view}"
    if told.lead < 0:
        better = f"{after} is better by {-lead:.4g}{unit}"
        return f"Why: as rebuilt it does not have the {best}: {figure}, and {better}.{by_view}"
    return f"Why: it has the {best}, {figure}; the runner-up is {after}, worse by {lead:.4g}{unit}.{by_view}"


def _telemetry(told: Explanation) -> str:
    if math.isinf(told.snapshot_age_s) or math.isnan(told.snapshot_age_s):
        return f"Telemetry: no snapshot{f' ({told.fallback})' if told.fallback else ''}."
    fallback = f"; it was not used ({told.fallback})" if told.fallback else ""
    blind = "" if reads_telemetry(told.policy) else f"; {told.policy} reads none"
    return f"Telemetry: the snapshot was {told.snapshot_age_s:.3f} s old{fallback}{blind}."


def _regret(told: Explanation) -> str:
    best = told.best
    beside = "With the same background and the same other transfers"
    if best is told.chosen:
        return f"Regret: none. {beside} no instance costs less in the fluid model."
    return (
        f"Regret: {told.regret_ms:.1f} ms. {beside} instance {best.decode_id} ({_tier(best)}) costs"
        f" {best.true_ms:.1f} ms in the fluid model, the one chosen {told.chosen.true_ms:.1f} ms."
    )


def _measured(told: Explanation) -> list[str]:
    if math.isnan(told.measured_kv_transfer_ms):
        return ["Measured: the transfer was not finished."]
    return [
        f"Measured: the KV transfer took {told.measured_kv_transfer_ms:.1f} ms, the first token"
        f" {told.measured_ttft_ms:.1f} ms from arrival."
    ]


def _differences(told: Explanation) -> list[str]:
    """Where the rebuilt decision is not the recorded one."""
    lines = []
    if not told.same_choice:
        chosen = "turns the request away" if told.rebuilt_id is None else f"chooses instance {told.rebuilt_id}"
        lines.append(f"Differs: rebuilt, the policy {chosen}; the run has {told.chosen_id}.")
    if not abs(told.prediction_off_ms) <= SAME_MS:
        lines.append(
            f"Differs: the KV transfer was predicted to take {told.recorded_kv_transfer_ms:.1f} ms; rebuilt,"
            f" {told.rebuilt_kv_transfer_ms:.1f} ms."
        )
    if told.telemetry_off_s >= SAME_SAMPLE_S:
        off = f"{told.telemetry_off_s:.3f} s from that of the run"
        lines.append(f"Telemetry is rebuilt from the nearest sample on record, {off}.")
    return lines
