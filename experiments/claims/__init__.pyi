# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .claim import CLAIMS, WORLDS, Claim, ClaimVerdict, Verdict
from .judge import verdicts
from .verdict_table import claim_lines, claims_table

__all__ = ["CLAIMS", "WORLDS", "Claim", "ClaimVerdict", "Verdict", "claim_lines", "claims_table", "verdicts"]
