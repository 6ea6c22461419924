"""How good a network is: proxy training and data sets."""

from evaluators.base import Direction, EvaluationFailed, Evaluator, OutOfMemory, Report, derive_seed
from evaluators.images import ImageData, make_image_data
from evaluators.proxy import ProxyTraining
from evaluators.recipe import Recipe, default_recipe
from evaluators.sources import load_images

__all__ = [
    "Direction",
    "EvaluationFailed",
    "Evaluator",
    "ImageData",
    "OutOfMemory",
    "ProxyTraining",
    "Recipe",
    "Report",
    "default_recipe",
    "derive_seed",
    "load_images",
    "make_image_data",
]
