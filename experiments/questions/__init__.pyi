# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .catalogue import QUESTIONS
from .noise_floor import noise_sentence
from .prediction_error import age_bins
from .question import (
    Axis,
    EmulatedCut,
    Question,
    SweepProfile,
    in_a_folders_name,
    note_on,
    workload_name,
    written,
)
from .regimes import PUBLIC
from .staleness import BASELINE

__all__ = [
    "BASELINE",
    "PUBLIC",
    "QUESTIONS",
    "Axis",
    "EmulatedCut",
    "Question",
    "SweepProfile",
    "age_bins",
    "in_a_folders_name",
    "noise_sentence",
    "note_on",
    "workload_name",
    "written",
]
