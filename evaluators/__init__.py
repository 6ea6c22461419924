"""How good a network is: proxy training, scores without training, data sets, tables of networks others have trained."""

from evaluators.base import Direction, EvaluationFailed, Evaluator, NoVerdict, Report, derive_seed
from evaluators.final import FinalTraining
from evaluators.images import ImageData, ImageSource, make_image_data
from evaluators.on_images import ImageEvaluator
from evaluators.proxy import ProxyTraining
from evaluators.recipe import Recipe, find_recipe, named_recipe, next_fidelity, training_cost
from evaluators.several import Several
from evaluators.sources import load_images
from evaluators.table import TableEntry, TabularEvaluator
from evaluators.zero_cost import ZeroCost

__all__ = [
    "Direction",
    "EvaluationFailed",
    "Evaluator",
    "FinalTraining",
    "ImageData",
    "ImageEvaluator",
    "ImageSource",
    "NoVerdict",
    "ProxyTraining",
    "Recipe",
    "Report",
    "Several",
    "TableEntry",
    "TabularEvaluator",
    "ZeroCost",
    "derive_seed",
    "find_recipe",
    "load_images",
    "make_image_data",
    "named_recipe",
    "next_fidelity",
    "training_cost",
]
