"""Neural architecture search for mobile convolutional networks.

import nas
result = nas.search("mobilenetv3", budget=20)
print(result.best.arch_id, result.best.metrics)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import resume, search
    from nas.auditing import AuditResult, audit
    from nas.benchmark import BenchResult, bench
    from nas.export.load import load_model
    from nas.result import SearchResult
    from nas.scaling import FitResult, ScalingResult, fit_scaling, scale
    from search_space import InputError, build_model, load_architecture, load_space

__all__ = [
    "AuditResult",
    "BenchResult",
    "FitResult",
    "InputError",
    "ScalingResult",
    "SearchResult",
    "audit",
    "bench",
    "build_model",
    "fit_scaling",
    "load_architecture",
    "load_model",
    "load_space",
    "resume",
    "scale",
    "search",
]


def __getattr__(name: str) -> Any:
    # Late, so that `nas --help` need not wait for PyTorch.
    if name in ("resume", "search"):
        from nas import api

        return getattr(api, name)
    if name in ("AuditResult", "audit"):
        from nas import auditing

        return getattr(auditing, name)
    if name in ("BenchResult", "bench"):
        from nas import benchmark

        return getattr(benchmark, name)
    if name in ("FitResult", "ScalingResult", "fit_scaling", "scale"):
        from nas import scaling

        return getattr(scaling, name)
    if name == "load_model":
        from nas.export.load import load_model

        return load_model
    if name == "SearchResult":
        from nas.result import SearchResult

        return SearchResult
    if name in ("InputError", "build_model", "load_architecture", "load_space"):
        import search_space

        return getattr(search_space, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
