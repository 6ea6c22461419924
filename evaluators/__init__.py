"""How good a network is: proxy training and data sets, tables of networks that others have trained."""

from evaluators.base import Direction, EvaluationFailed, Evaluator, OutOfMemory, Report, derive_seed
from evaluators.images import ImageData, make_image_data
from evaluators.proxy import ProxyTraining
from evaluators.recipe import Recipe, default_recipe
from evaluators.sources import load_images
from evaluators.table import TableEntry, TabularEvaluator

__all__ = [
    "Direction",
    "EvaluationFailed",
    "Evaluator",
    "ImageData",
    "OutOfMemory",
    "ProxyTraining",
    "Recipe",
    "Report",
    "TableEntry",
    "TabularEvaluator",
    "default_recipe",
    "derive_seed",
    "load_images",
    "make_image_data",
]
