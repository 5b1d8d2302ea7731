# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .published_cells import HOW_KNOWN, PublishedCell, PublishedFact, published_cells, published_facts, published_source
from .set_up import DEFAULT_CLA_STAR, PAPER_TRAFFIC, WORKLOADS, fitted_changes, paper_set_up, published_fit

__all__ = [
    "DEFAULT_CLA_STAR",
    "HOW_KNOWN",
    "PAPER_TRAFFIC",
    "WORKLOADS",
    "PublishedCell",
    "PublishedFact",
    "fitted_changes",
    "paper_set_up",
    "published_cells",
    "published_facts",
    "published_fit",
    "published_source",
]
