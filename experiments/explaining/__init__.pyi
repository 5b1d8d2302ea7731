# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .explanation import CandidateCost, Explanation, explain_requests, sampled_requests
from .explanation_summary import as_json, summarise_explanations, summary_text
from .explanation_text import in_sentences

__all__ = [
    "CandidateCost",
    "Explanation",
    "as_json",
    "explain_requests",
    "in_sentences",
    "sampled_requests",
    "summarise_explanations",
    "summary_text",
]
