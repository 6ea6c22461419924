"""Latency tables that others published, read into ours.

Known are the forms of ProxylessNAS and once-for-all (`keyed`) and of Single-Path NAS (`single_path`); which one a file
has is seen from its content. What an entry does not say, such as the activation, is taken from the authors' code.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from latency.conditions import Conditions
from latency.published.found import UNITS, Found, check_unit
from latency.published.keyed import is_keyed, read_keyed
from latency.published.single_path import is_single_path, read_single_path
from latency.table import PUBLISHED, LatencyTable
from search_space import InputError, SearchSpace
from search_space.documents import Document, read_document
from search_space.errors import did_you_mean, one_line
from search_space.layers import ACTIVATION
from search_space.parts import PartShape
from search_space.rules import NAME


class Coverage(NamedTuple):
    """How many of a space's part shapes a table has."""

    covered: int
    total: int
    missing: tuple[PartShape, ...]
    """In the order of the network: stems, blocks, heads."""


@dataclass(frozen=True)
class ImportResult:
    """A published table, and what became of its entries: `mapped` of them were used, `unmapped` are the others."""

    table: LatencyTable
    mapped: int
    """Entries of the file, of which several may make up one signature."""
    unmapped: tuple[tuple[str, str], ...]
    """(key, reason), in the order of the file."""

    def coverage(self, space: SearchSpace) -> Coverage:
        """What the table has of `space`, at the space's own resolutions and number of classes."""
        shapes = space.graph().shapes()
        known = self.table.part_ms
        missing = tuple(shape for shape in shapes if shape.at_inference() not in known)
        return Coverage(len(shapes) - len(missing), len(shapes), missing)


def import_published(
    path: str | os.PathLike[str],
    *,
    device_name: str = "",
    runtime: str = "tflite",
    threads: int = 1,
    unit: str = "ms",
    activation: str = "",
    name: str = "",
) -> ImportResult:
    """Read a published table into one of ours, in ms, which predicts by the published means and has no calibration.

    `device_name` is needed but for Single-Path NAS, whose table is of a Pixel 1. `runtime` is what the authors of all
    three forms used on phones. `unit` is that of the file's times: ms, us or s. `activation` stands in for the form's
    own one. `name` is the table's, by default that of the file.

    Raises `InputError` if the file cannot be read, has no known form, holds a time that is none, has no entry that can
    be mapped, or times that cannot be in `unit` or are not all in one.
    """
    if unit not in UNITS:
        raise InputError("the unit must be ms, us or s", unit, where="--unit", remedy=did_you_mean(unit, UNITS))
    if activation:
        try:
            ACTIVATION.check("activation", activation)
        except InputError as error:
            raise error.located("--activation") from None
    document = read_document(path)
    found = _read(document, UNITS[unit], activation)
    if not found.entries:
        raise _nothing(document, found)
    check_unit(document, found.entries, unit)
    device_name = device_name or found.device_name
    if not device_name:
        rule = f"a {found.form} table does not say which device it is of"
        raise InputError(rule, where=document.origin, remedy="say it, as --device-name 'Pixel 1'")
    source = {
        "imported_from": one_line(Path(path).name),
        "form": found.form,
        "unit": unit,
        "activation": activation or "as in the form",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "mapped_entries": len(found.entries),
        "unmapped_entries": len(found.unmapped),
    }
    table = LatencyTable(
        NAME.check("name", name or one_line(Path(path).stem)),
        Conditions(runtime, device_name, threads=threads),
        found.times,
        PUBLISHED,
        source=source,
    )
    return ImportResult(table, len(found.entries), tuple(found.unmapped))


def _nothing(document: Document, found: Found) -> InputError:
    """What to say of a table without a single entry of use."""
    reasons = [f"{key}: {reason}" for key, reason in found.unmapped[:3]] or ["it has none"]
    more = [f"and {len(found.unmapped) - 3} more"] if found.unmapped[3:] else []
    rule = f"no entry of this {found.form} table can be mapped: {'; '.join(reasons + more)}"
    return InputError(rule, where=document.origin, remedy="is it a table of these layers?")


def _read(document: Document, ms_per_unit: float, activation: str) -> Found:
    if is_keyed(document):
        return read_keyed(document, ms_per_unit, activation)
    if is_single_path(document):
        return read_single_path(document, ms_per_unit, activation)
    known = (
        "known are ProxylessNAS and once-for-all (`expanded_conv-input:…` keys) and Single-Path NAS (layers 0 to 21)"
    )
    raise InputError("not a published latency table of a known form", where=document.origin, remedy=known)


__all__ = ["Coverage", "ImportResult", "import_published"]
