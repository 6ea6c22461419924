"""From one network to a family of sizes."""

from nas.scaling.api import scale
from nas.scaling.fit import FitResult, fit_scaling
from nas.scaling.result import FamilyMember, ScalingResult

__all__ = ["FamilyMember", "FitResult", "ScalingResult", "fit_scaling", "scale"]
