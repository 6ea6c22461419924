"""Latency tables with something wrong in them are refused in one line that names it and its place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import table_refusal

from latency import load_table

Change = Callable[[dict[str, Any]], object]


def signature(index: int, **changes: Any) -> Change:
    return lambda plain: plain["signatures"][index].update(changes)


def calibration(**changes: Any) -> Change:
    return lambda plain: plain["calibration"].update(changes)


def conditions(**changes: Any) -> Change:
    return lambda plain: plain["conditions"].update(changes)


def drop(*path: str | int) -> Change:
    def change(plain: Any) -> None:
        *above, last = path
        for key in above:
            plain = plain[key]
        del plain[last]

    return change


def both(one: Change, other: Change) -> Change:
    return lambda plain: (one(plain), other(plain))


HUGE = 10**400
KEYS = ("schema_version", "name", "conditions", "source", "statistic", "calibration", "signatures")
NOT_TIMES = [0, 0.0, -1.5, math.nan, math.inf, -math.inf, True, "1.0", [1.0], {}, HUGE]
TOP: list[tuple[Change, str]] = [
    (lambda plain: plain.update(schema_version=2), "schema_version must be 1"),
    (lambda plain: plain.update(schema_version="1"), "schema_version must be 1"),
    (lambda plain: plain.update(schema_version=True), "schema_version must be 1"),
    (lambda plain: plain.update(kind="architecture"), "not a latency table"),
    (lambda plain: plain.update(kind=[]), "not a latency table"),
    *((drop(key), f"needs {key}") for key in KEYS),
    (lambda plain: plain.update(signature=[]), "did you mean signatures?"),
    (lambda plain: plain.update(signatures=[]), "signatures must be a list"),
    (lambda plain: plain.update(signatures={}), "signatures must be a list"),
    (lambda plain: plain.update(signatures=[3]), "signatures[0] must be a mapping"),
    (lambda plain: plain.update(signatures=[None]), "signatures[0] must be a mapping"),
    (lambda plain: plain.update(name=""), "name must be text"),
    (lambda plain: plain.update(name=3), "name must be text"),
    (lambda plain: plain.update(source=[]), "source must be plain data"),
    (lambda plain: plain.update(source={"deep": math.nan}), "source must be plain data"),
    (lambda plain: plain.update(statistic="p50_ms"), "statistic must be p10_ms or mean_ms"),
    (lambda plain: plain.update(statistic=[]), "statistic must be p10_ms or mean_ms"),
    (lambda plain: plain.update(statistic="mean_ms"), "every signature needs mean_ms"),
    (lambda plain: plain.update(conditions=[]), "conditions must be a mapping"),
    (drop("conditions", "runtime"), "conditions need runtime"),
    (drop("conditions", "device_name"), "conditions need device_name"),
    (conditions(thread=1), "conditions have no field of this name"),
    (conditions(threads=0), "threads must be 1 to"),
    (conditions(threads="1"), "threads must be a whole number"),
    (conditions(batch=HUGE), "batch must be"),
    (conditions(dtype="float8"), "dtype must be"),
    (conditions(dtype=[]), "dtype must be"),
    (conditions(runtime=None), "runtime must be text"),
    (conditions(versions=["1"]), "versions must be plain data"),
]
SIGNATURES: list[tuple[Change, str]] = [
    *((signature(1, p10_ms=value), "p10_ms must be a time above 0") for value in NOT_TIMES),
    *((signature(1, min_ms=value), "min_ms must be a time above 0") for value in NOT_TIMES),
    (signature(1, std_ms=-1.0), "std_ms must be"),
    (signature(1, p10_ms=5.0, p50_ms=4.0), "must not fall"),
    (signature(1, min_ms=5.0), "must not fall"),
    (signature(1, p10_ms=None), "every signature needs p10_ms"),
    (drop("signatures", 1, "p10_ms"), "every signature needs p10_ms"),
    (drop("signatures", 1, "count"), "times need a count"),
    *((signature(1, count=value), "count must be") for value in (0, -1, 1.5, True, "3", None, [])),
    (both(drop("signatures", 1, "p10_ms"), signature(1, p10_us=60.0)), "p10_us"),
    (signature(1, p10_s=0.06), "p10_s"),
    (signature(1, part="stage"), "part must be stem, block or head"),
    (signature(1, part=[]), "part must be stem, block or head"),
    (drop("signatures", 1, "part"), "part must be stem, block or head"),
    *(
        (signature(1, type=value), "block type must be a known one")
        for value in ("mbcnov", 3, None, [], {}, ["mbconv"])
    ),
    (drop("signatures", 1, "type"), "block type must be a known one"),
    (signature(1, part="head"), "signature needs num_classes"),
    (signature(1, kernel=3), "did you mean kernel_size?"),
    (signature(1, num_classes=10), "no field of this name"),
    (signature(1, kernel_size=4), "kernel_size must be odd"),
    (signature(1, expand_ratio=HUGE), "expand_ratio must be"),
    (signature(1, in_channels=0), "in_channels must be"),
    (signature(1, in_channels=8.0), "in_channels must be"),
    (signature(1, size_px=-4), "size_px must be"),
    (signature(1, size_px=None), "size_px must be"),
    (drop("signatures", 1, "size_px"), "needs size_px"),
    (drop("signatures", 1, "in_channels"), "needs in_channels"),
    (drop("signatures", 1, "out_channels"), "needs out_channels"),
]
CALIBRATION: list[tuple[Change, str]] = [
    (lambda plain: plain.update(calibration=[]), "calibration must be a mapping"),
    (drop("calibration", "scale"), "calibration needs scale"),
    (drop("calibration", "fixed_overhead_ms"), "calibration needs fixed_overhead_ms"),
    (calibration(overhead_us=3), "calibration has no field of this name"),
    *((calibration(scale=value), "scale must be a number above 0") for value in (*NOT_TIMES, None)),
    *((calibration(fixed_overhead_ms=value), "fixed_overhead_ms must be") for value in (-1, math.nan, "0", True, HUGE)),
    *((calibration(mape_percent=value), "mape_percent must be") for value in (-1, math.nan, "0", True, [], HUGE)),
    *((calibration(networks=value), "networks must be a list") for value in (3, {"a": 1}, "ab")),
    (calibration(networks=[3]), "networks[0] must be a mapping"),
    (drop("calibration", "networks", 0, "architecture"), "needs architecture"),
    (drop("calibration", "networks", 0, "p10_ms"), "needs p10_ms"),
    (drop("calibration", "networks", 0, "count"), "times need a count"),
    (drop("calibration", "networks", 0, "architecture", "stem"), "needs stem"),
    (lambda plain: plain["calibration"]["networks"][0].update(architecture=3), "must be a mapping"),
    (lambda plain: plain["calibration"]["networks"][0].update(p10_us=3), "no field of this name"),
    (lambda plain: plain["calibration"]["networks"][0]["architecture"].update(resolution=0), "resolution must be"),
]


@pytest.mark.parametrize(("place", "change", "said"), [
    *(("", *case) for case in TOP),
    *(("signatures", *case) for case in SIGNATURES),
    *(("calibration", *case) for case in CALIBRATION),
])  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(
    place: str, change: Change, said: str, plain: dict[str, Any], file: Path
) -> None:
    change(plain)
    file.write_text(json.dumps(plain))
    message = table_refusal(file)
    assert said in message
    assert place in message


def test_the_row_is_named(plain: dict[str, Any], file: Path) -> None:
    plain["signatures"][3]["p10_ms"] = -1
    file.write_text(json.dumps(plain))
    assert f"({file}, signatures[3]" in table_refusal(file)
    plain["signatures"][3] = {**plain["signatures"][1]}
    file.write_text(json.dumps(plain))
    message = table_refusal(file)
    assert "only once" in message
    assert "signatures[1]" in message
    assert f"({file}, signatures[3]" in message


def test_a_row_in_two_spellings_stands_twice(plain: dict[str, Any], file: Path) -> None:
    """A field without effect does not make another signature."""
    row = next(row for row in plain["signatures"] if row["part"] == "block" and row.get("se_ratio") == 0)
    plain["signatures"].append({**row, "se_variant": "mobilenetv3"})
    file.write_text(json.dumps(plain))
    assert "only once" in table_refusal(file)


@pytest.mark.parametrize("factor", [1000, 1e-3, 2, 0.4])
def test_times_that_contradict_the_tables_own_networks_are_refused(
    factor: float, plain: dict[str, Any], file: Path
) -> None:
    for row in plain["signatures"]:
        row.update({name: value * factor for name, value in row.items() if name.endswith("_ms")})
    file.write_text(json.dumps(plain))
    message = table_refusal(file)
    assert "must agree with its own calibration networks" in message
    assert "milliseconds" in message


def test_networks_in_another_unit_are_refused(plain: dict[str, Any], file: Path) -> None:
    network = plain["calibration"]["networks"][2]
    network.update({name: value * 1000 for name, value in network.items() if name.endswith("_ms")})
    file.write_text(json.dumps(plain))
    assert "networks[2]" in table_refusal(file)


def test_a_few_networks_that_were_disturbed_are_no_contradiction(plain: dict[str, Any], file: Path) -> None:
    """On a busy machine; else its table would be refused after hours of measuring."""
    for network, factor in zip(plain["calibration"]["networks"][:2], (2.5, 0.4), strict=True):
        network.update({name: value * factor for name, value in network.items() if name.endswith("_ms")})
    file.write_text(json.dumps(plain))
    assert load_table(file).calibration.networks


@pytest.mark.parametrize("networks", [[], None, "left out"])
def test_a_table_need_not_have_networks(networks: Any, plain: dict[str, Any], file: Path) -> None:
    plain["calibration"]["networks"] = networks
    if networks == "left out":
        del plain["calibration"]["networks"]
    file.write_text(json.dumps(plain))
    assert load_table(file).calibration.networks == ()
