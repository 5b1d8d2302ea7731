# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .published_cells import HOW_KNOWN, PublishedCell, PublishedFact, published_cells, published_facts, published_source
from .set_up import PAPER_SET_UP, PAPER_TRAFFIC

__all__ = [
    "HOW_KNOWN",
    "PAPER_SET_UP",
    "PAPER_TRAFFIC",
    "PublishedCell",
    "PublishedFact",
    "published_cells",
    "published_facts",
    "published_source",
]
