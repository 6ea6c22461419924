"""The model card: what a folder of exported files holds, and where it comes from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latency.conditions import Conditions
from nas.constraints import LATENCY
from nas.export.base import Job, Written
from nas.finalists import MEASURED
from search_space import InputError, count_cost
from search_space.errors import one_line

_CONDITIONS = {LATENCY: "latency_conditions", MEASURED: "measured_conditions"}
"""Where a run's provenance says what a latency is of."""


def model_card(
    job: Job,
    written: Mapping[str, Written],
    weights: Path | None,
    source: str | os.PathLike[str] | None,
    predicted: tuple[float, Conditions] | None,
) -> str:
    """The text. `weights` is the file that was written, `source` the one it was made from, if there was one.

    `predicted` is a latency in ms with its conditions, besides those that a run has left.
    """
    architecture, cost = job.architecture, count_cost(job.architecture)
    size = architecture.resolution
    provenance = dict(architecture.provenance)
    metrics = provenance.pop("metrics", {})
    metrics = dict(metrics) if isinstance(metrics, Mapping) else {"metrics": metrics}
    conditions = {name: provenance.pop(key, None) for name, key in _CONDITIONS.items()}
    lines = [
        f"# {_cell(architecture.name)}",
        "",
        "|   |   |",
        "|---|---|",
        f"| network | `{architecture.arch_id}` |",
        f"| input | [N, {architecture.input_channels}, {size}, {size}], float32 |",
        f"| output | [N, {architecture.num_classes}] logits |",
        f"| parameters | {cost.params:,} |",
        f"| multiply–adds | {cost.macs:,} at {size} px |",
        f"| weights | {_weights(weights, source)} |",
        "",
        "## Files",
        "",
        "| format | file | |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | `{one.file.name}` | {_cell(one.note)} |" for name, one in written.items()]
    lines += ["", "## Where it comes from", ""]
    if provenance:
        lines += [
            "|   |   |",
            "|---|---|",
            *(f"| {_cell(name)} | {_cell(value)} |" for name, value in _flat(provenance)),
        ]
    else:
        lines.append("Not recorded: the architecture did not come from a search.")
    scores = {name: value for name, value in metrics.items() if name not in _CONDITIONS}
    if scores:
        lines += [
            "",
            "## Metrics",
            "",
            "As the search recorded them, none by full training; `final_` and `test_` are of its finalists' training.",
        ]
        lines += ["", "| metric | value |", "|---|---|", *(f"| {_cell(n)} | {_cell(v)} |" for n, v in _flat(scores))]
    lines += ["", "## Latency", "", *_latency(metrics, conditions, predicted)]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("nas", "torch"))
    return "\n".join([*lines, "", f"Written by {versions}.", ""])


def _weights(weights: Path | None, source: str | os.PathLike[str] | None) -> str:
    if weights is None:
        return "none: the files say what the network is, not what it has learned"
    if source is None:
        return f"`{weights.name}`: initial ones (seed 0), **not trained**"
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return f"`{weights.name}`, from {_cell(os.fspath(source))} (SHA-256 {digest[:16]}…)"


def _latency(
    metrics: Mapping[str, Any], conditions: Mapping[str, Any], predicted: tuple[float, Conditions] | None
) -> list[str]:
    rows = []
    for name, word in ((LATENCY, "predicted"), (MEASURED, "measured")):
        if name in metrics:
            rows.append(f"| {word} | {_cell(metrics[name])} | {_cell(_told(conditions[name]))} |")
    if predicted is not None:
        rows.append(f"| predicted | {predicted[0]:.6g} | {_cell(predicted[1])} |")
    if not rows:
        return ["Neither predicted nor measured."]
    return ["| | ms | device and conditions |", "|---|---|---|", *rows]


def _told(conditions: Any) -> str:
    """Conditions in words, with the versions they hold for."""
    if not isinstance(conditions, Mapping):
        return "not recorded"
    try:
        told = Conditions(**conditions)
    except (TypeError, InputError):
        return "; ".join(f"{name} {value}" for name, value in _flat(conditions))
    versions = ", ".join(f"{name} {version}" for name, version in told.versions.items())
    return f"{told}" + (f" ({versions})" if versions else "")


def _flat(plain: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _cell(value: Any) -> str:
    """A value inside a Markdown table."""
    text = f"{value:.6g}" if isinstance(value, float) else one_line(str(value))
    return text.replace("|", "\\|").replace("<", "&lt;")
