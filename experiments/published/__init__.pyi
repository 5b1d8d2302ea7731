# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .published_cells import HOW_KNOWN, PublishedCell, PublishedFact, published_cells, published_facts, published_source

__all__ = ["HOW_KNOWN", "PublishedCell", "PublishedFact", "published_cells", "published_facts", "published_source"]
