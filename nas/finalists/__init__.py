"""Finalists: the best candidates trained longer and timed end to end, before one is called the winner."""

from nas.finalists.contest import Contest, Outcome
from nas.finalists.fidelity import FinalFidelity, final_fidelity
from nas.finalists.finalist import MEASURED, Finalist, Jury
from nas.finalists.log import FinalsLog
from nas.finalists.timing import Timer, doubts, why_not_here
from nas.finalists.training import Trainer

__all__ = [
    "MEASURED",
    "Contest",
    "FinalFidelity",
    "Finalist",
    "FinalsLog",
    "Jury",
    "Outcome",
    "Timer",
    "Trainer",
    "doubts",
    "final_fidelity",
    "why_not_here",
]
