# The public names of this package; each is loaded when it is first used (lazy_loader, SPEC 1).
from .agreement import Agreement, RowAgreement, agreement_text, compare_sweep, shared_runs
from .data_card import data_card
from .data_set import CARD, DataSet, default_place, open_reference, pack, read_data_set
from .entries import entry_conditions, with_entries
from .leaderboard import BASELINE, Board, board_chart, board_requests, make_board
from .leaderboard_page import board_page, board_text
from .planned import QUESTIONS_OF, SWEEPS, planned_emulated, planned_sweep

__all__ = [
    "BASELINE",
    "CARD",
    "QUESTIONS_OF",
    "SWEEPS",
    "Agreement",
    "Board",
    "DataSet",
    "RowAgreement",
    "agreement_text",
    "board_chart",
    "board_page",
    "board_requests",
    "board_text",
    "compare_sweep",
    "data_card",
    "default_place",
    "entry_conditions",
    "make_board",
    "open_reference",
    "pack",
    "planned_emulated",
    "planned_sweep",
    "read_data_set",
    "shared_runs",
    "with_entries",
]
