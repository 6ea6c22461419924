"""How fast a network is: tables of latencies by part, measured on a device, and predictions from them."""

from latency.build import build_table
from latency.check import check_table
from latency.conditions import Conditions
from latency.predict import MissingSignature, Prediction, Predictor
from latency.runtimes import RUNTIMES, conditions_here, make_runtime
from latency.table import LatencyTable, Times
from latency.table_file import dump_table, load_table, save_table

__all__ = [
    "RUNTIMES",
    "Conditions",
    "LatencyTable",
    "MissingSignature",
    "Prediction",
    "Predictor",
    "Times",
    "build_table",
    "check_table",
    "conditions_here",
    "dump_table",
    "load_table",
    "make_runtime",
    "save_table",
]
