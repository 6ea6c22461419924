"""Scores of networks that were never trained."""

from evaluators.zero_cost.evaluator import COUNTED, NAMES, SCORES, Counted, ZeroCost

__all__ = ["COUNTED", "NAMES", "SCORES", "Counted", "ZeroCost"]
