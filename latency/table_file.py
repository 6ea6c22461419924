"""The latency table's file: JSON (which is YAML, too), a signature a line; see docs/latency.md."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from latency import signature
from latency.conditions import Conditions
from latency.interpolate import kind_of, numbers_of
from latency.predict import Predictor
from latency.table import Calibration, LatencyTable, Measured, Times, is_number
from search_space import InputError
from search_space.architecture_file import parse_architecture, top_level
from search_space.documents import Document, parse_document, read_text, write_whole
from search_space.parts import PartShape, parts
from search_space.rules import PlainMapping, Text

_KEYS = dict.fromkeys(
    ("schema_version", "kind", "name", "conditions", "source", "statistic", "calibration", "signatures"), True
)
_KIND = "latency_table"
_MAX_BYTES = 200_000_000
_TIMES = ("count", "min_ms", "p10_ms", "p50_ms", "p90_ms", "mean_ms", "std_ms")
_CALIBRATION = {"scale": True, "fixed_overhead_ms": True, "mape_percent": False, "networks": False}
_CONTRADICTION_PERCENT = 50.0
_MIXED_UNITS_FACTOR = 100.0
_LEAST_NEIGHBOURS = 12
_CONTRADICTION_FACTOR = 10.0
# YAML 1.1 takes 1e-05 for a word, and 1.0e-05 for a number.
_TEXT_OR_DOTTED_OR_E = re.compile(r'"(?:[^"\\]|\\.)*"|\d\.\d+|(\d)e')


def save_table(table: LatencyTable, path: str | os.PathLike[str]) -> None:
    """Write a table, whole or not at all."""
    write_whole(path, dump_table(table))


def dump_table(table: LatencyTable) -> str:
    """The text of the table's file."""
    calibration = table.calibration
    head = {
        "schema_version": 1,
        "kind": _KIND,
        "name": table.name,
        "conditions": table.conditions.to_dict(),
        "source": dict(table.source),
        "statistic": table.statistic,
    }
    fit: dict[str, Any] = {"scale": calibration.scale, "fixed_overhead_ms": calibration.fixed_overhead_ms}
    if calibration.mape_percent is not None:
        fit["mape_percent"] = calibration.mape_percent
    networks = [{**one.times.to_dict(), "architecture": one.architecture.to_dict()} for one in calibration.networks]
    rows = [{**signature.to_plain(shape), **times.to_dict()} for shape, times in table.times.items()]
    text = "".join(f"{_line(name)}: {_line(value)},\n" for name, value in head.items())
    text += f'"calibration": {{\n{_line(fit)[1:-1]},\n"networks": {_lines(networks)}}},\n"signatures": {_lines(rows)}'
    return f"{{\n{text}}}\n"


def _line(value: Any) -> str:
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    return _TEXT_OR_DOTTED_OR_E.sub(lambda found: f"{found[1]}.0e" if found[1] else found[0], text)


def _lines(rows: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(map(_line, rows)) + "\n]\n"


def load_table(path: str | os.PathLike[str]) -> LatencyTable:
    """Read a table; raises `InputError` with the place for anything that is not one, or contradicts itself."""
    origin = os.fspath(path)
    document = _read(origin)
    with document.at(()):
        if not isinstance(document.data, dict) or document.data.get("kind") != _KIND:
            remedy = "make one by `nas latency build`, or `nas latency import` what others published"
            raise InputError("not a latency table", where=origin, remedy=remedy)
    plain = top_level(document, _KEYS)
    with document.at(("name",)):
        name = Text(200).check("name", plain["name"])
    with document.at(("conditions",)):
        conditions = _conditions(document.mapping(("conditions",)))
    with document.at(("source",)):
        source = PlainMapping().check("source", plain["source"])
    times = dict(_signatures(document))
    calibration = _calibration(document)
    with document.at(()):
        table = LatencyTable(name, conditions, times, plain["statistic"], calibration, source)
    with document.at(("signatures",)):
        _refuse_mixed_units(table)
    with document.at(("calibration",)):
        _refuse_contradiction(table)
    return table


def _read(origin: str) -> Document:
    text = read_text(origin, _MAX_BYTES)
    if not text.lstrip().startswith("{"):
        return parse_document(text, origin)  # YAML, written by hand
    try:
        return Document(
            json.loads(text, object_pairs_hook=_without_duplicates), origin
        )  # by far the faster, and tables are long
    except InputError as error:
        raise error.located(origin) from None
    except RecursionError:
        raise InputError("the file is nested too deeply", where=origin, remedy="is it a table?") from None
    except ValueError as error:
        where, problem = f"{origin}:{getattr(error, 'lineno', 1)}", getattr(error, "msg", "a number is too long")
        remedy = "it may be cut off: restore it, or build it again"
        raise InputError(f"not valid JSON: {problem}", where=where, remedy=remedy) from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise InputError("a key may stand only once", next(n for n in names if names.count(n) > 1), remedy="remove one")
    return made


def _conditions(plain: Mapping[str, Any]) -> Conditions:
    known = Conditions.__dataclass_fields__
    for name in plain:
        if name not in known:
            raise InputError("conditions have no field of this name", name)
    for name in ("runtime", "device_name"):
        if name not in plain:
            raise InputError(f"conditions need {name}", remedy=f"add {name}")
    return Conditions(**plain)


def _signatures(document: Document) -> Iterator[tuple[PartShape, Times]]:
    seen: dict[PartShape, int] = {}
    for index in range(len(document.sequence(("signatures",)))):
        path = ("signatures", index)
        row = document.mapping(path)
        with document.at(path):
            shape = signature.from_plain({name: value for name, value in row.items() if name not in _TIMES})
            if shape in seen:
                rule = f"a signature may stand only once; it is that of signatures[{seen[shape]}]"
                raise InputError(rule, remedy="remove one")
            seen[shape] = index
            yield shape, _times(row)


def _times(row: Mapping[str, Any]) -> Times:
    if "count" not in row:
        raise InputError("times need a count", remedy="add count")
    return Times(**{name: row[name] for name in _TIMES if name in row})


def _calibration(document: Document) -> Calibration:
    plain = document.mapping(("calibration",), _CALIBRATION)
    networks = []
    for index in range(len(document.sequence(("calibration", "networks"))) if plain.get("networks") else 0):
        path = ("calibration", "networks", index)
        row = document.mapping(path, {**dict.fromkeys(_TIMES, False), "architecture": True})
        with document.at(path):
            architecture = parse_architecture(Document(row["architecture"], document.where(path)))
            networks.append(Measured(architecture, _times(row)))
            if networks[-1].times.p10_ms is None:
                raise InputError("a calibration network needs p10_ms", remedy="build the table again")
    mape = plain.get("mape_percent")
    if mape is not None and not (is_number(mape) and mape >= 0):
        with document.at(("calibration",)):
            raise InputError("mape_percent must be a number of 0 or more", mape, field="mape_percent")
    with document.at(("calibration",)):
        return Calibration(plain["scale"], plain["fixed_overhead_ms"], tuple(networks), mape)


def _refuse_contradiction(table: LatencyTable) -> None:
    """Refuse times that are far from those of the table's own networks: units were mixed, or lines edited.

    A few networks may have been disturbed while they were timed, but not half of them, nor one by a factor of ten.
    Networks with parts that are not in the table (any more) say nothing.
    """
    predictor, part_ms = Predictor(table), table.part_ms
    networks = [
        (index, one)
        for index, one in enumerate(table.calibration.networks)
        if all(shape.at_inference() in part_ms for shape in parts(one.architecture))
    ]
    if not networks:
        return
    pairs = [(predictor.latency_ms(one.architecture), float(one.times.p10_ms or 0.0)) for _, one in networks]
    ratios = [predicted / measured for predicted, measured in pairs]
    factors = [max(ratio, 1 / ratio) if ratio else math.inf for ratio in ratios]
    off = statistics.median(abs(ratio - 1) for ratio in ratios)
    if off > _CONTRADICTION_PERCENT / 100 or max(factors) > _CONTRADICTION_FACTOR:
        worst = factors.index(max(factors))
        predicted, measured = pairs[worst]
        rule = (
            f"the table must agree with its own calibration networks to {_CONTRADICTION_PERCENT:.0f} %: "
            f"networks[{networks[worst][0]}] took {measured:.3f} ms and is predicted {predicted:.3f} ms"
        )
        raise InputError(rule, remedy="are all times in milliseconds? else build the table again")


def _refuse_mixed_units(table: LatencyTable) -> None:
    """Refuse a signature a hundred times off what its neighbours suggest, by a power law in its numbers."""
    groups: dict[Any, list[tuple[int, PartShape, float]]] = {}
    for index, (shape, ms) in enumerate(table.part_ms.items()):
        groups.setdefault(kind_of(shape), []).append((index, shape, ms))
    for group in groups.values():
        if len(group) < _LEAST_NEIGHBOURS:
            continue
        numbers = np.array([[1.0, *numbers_of(shape)] for _, shape, _ in group])
        times = np.log([ms for _, _, ms in group])
        # Each row against the fit to the others: residual / (1 - leverage). A row alone in its kind has none.
        base, singular, _ = np.linalg.svd(numbers, full_matrices=False)
        base = base[:, singular > 1e-9 * singular[0]]
        left_out = 1 - (base**2).sum(1)
        residual = np.where(left_out > 0.05, (times - base @ (base.T @ times)) / np.maximum(left_out, 0.05), 0.0)
        worst = int(np.abs(residual).argmax())
        if abs(residual[worst]) > math.log(_MIXED_UNITS_FACTOR):
            index, _, ms = group[worst]
            rule = f"signatures[{index}] must have the unit of the others: it is far from what its neighbours suggest"
            raise InputError(rule, f"{ms:g} ms", remedy="write milliseconds, or build the table again")
