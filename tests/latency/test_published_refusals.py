"""Published tables in the wrong unit, and files that are none, are refused in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fakes import one_line
from published_forms import BLOCK, PROXYLESS, imported, keyed, refusal, single_path

from latency.published import import_published
from search_space import InputError

# Units.


@pytest.mark.parametrize(("unit", "factor"), [("us", 1e3), ("s", 1e-3)])
def test_units_are_converted(tmp_path: Path, unit: str, factor: float) -> None:
    whole = imported(tmp_path, keyed(PROXYLESS)).table
    scaled = {key: (mean * factor, var * factor**2, count) for key, (mean, var, count) in PROXYLESS.items()}
    table = imported(tmp_path, keyed(scaled), unit=unit).table
    assert table.source["unit"] == unit
    for shape, times in whole.times.items():
        assert table.times[shape].mean_ms == pytest.approx(times.mean_ms)
        assert table.times[shape].std_ms == pytest.approx(times.std_ms)
    said = refusal(tmp_path, keyed(scaled), f"--unit {unit}", "lut.yaml")
    assert f"the times look like {'seconds' if unit == 's' else 'microseconds'}" in said


def test_units_of_single_path_are_converted(tmp_path: Path) -> None:
    plain = {layer: {choice: ms / 1e3 for choice, ms in row.items()} for layer, row in single_path().items()}
    table = imported(tmp_path, plain, "lut.json", unit="s").table
    assert table.part_ms == pytest.approx(imported(tmp_path, single_path(), "lut.json").table.part_ms)
    refusal(tmp_path, plain, "look like seconds", "--unit s", file="lut.json")


def test_times_in_no_unit_are_refused(tmp_path: Path) -> None:
    rows = {key: (mean * 1e9, var, count) for key, (mean, var, count) in PROXYLESS.items()}
    refusal(tmp_path, keyed(rows), "which no device does", "is it a table of these layers?")
    refusal(tmp_path, keyed(PROXYLESS), "the unit must be ms, us or s", "--unit", unit="min")


@pytest.mark.parametrize("key", [BLOCK, "Conv-input:32x32x3-output:16x16x16", "Logits-input:8x8x64-output:10"])
@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_mixed_units_are_refused(tmp_path: Path, key: str, factor: float) -> None:
    plain = keyed(PROXYLESS)
    plain[key]["mean"] *= factor
    said = refusal(tmp_path, plain, "one unit", key)
    assert re.search(r"lut\.yaml:\d+", said)


def test_mixed_halves_are_refused(tmp_path: Path) -> None:
    plain = {
        layer: {c: ms * (1e3 if int(layer) % 2 else 1) for c, ms in row.items()} for layer, row in single_path().items()
    }
    refusal(tmp_path, plain, "one unit", "and 41 more", file="lut.json")


# What is refused.


@pytest.mark.parametrize(
    "value", [0, -1.5, float("nan"), float("inf"), float("-inf"), "4.4", None, True, [], {}, 10**400, 1e300, 5e-324]
)
def test_times_that_are_none(tmp_path: Path, value: Any) -> None:
    plain = keyed(PROXYLESS)
    plain[BLOCK]["mean"] = value
    text = json.dumps(plain, indent=1).replace("NaN", ".nan").replace("Infinity", ".inf")
    said = refusal(tmp_path, text, BLOCK)
    assert re.search(r"lut\.yaml:\d+", said)
    layers: dict[str, Any] = single_path()
    layers["3"]["2"] = value
    refusal(tmp_path, layers, "lut.json:", "3.2", file="lut.json")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"var": -0.1}, "var must be"),
        ({"var": "x"}, "var must be a number"),
        ({"count": 0}, "count must be"),
        ({"count": 2.5}, "count must be a whole number"),
        ({"mean": ...}, "an entry needs its mean time"),
    ],
)
def test_entries_that_are_none(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    plain = keyed(PROXYLESS)
    plain[BLOCK].update(changed)
    plain[BLOCK] = {name: value for name, value in plain[BLOCK].items() if value is not ...}
    refusal(tmp_path, plain, said, BLOCK, "lut.yaml:")
    plain[BLOCK] = 3  # type: ignore[assignment]
    refusal(tmp_path, plain, "must be a mapping", "lut.yaml:")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "lut.yaml"),
        ("{}", "lut.yaml"),
        ("{}", "lut.json"),
        ("[]", "lut.json"),
        ("3", "lut.json"),
        ("null", "lut.json"),
        ("", "lut.json"),
        ('{"0": {"0": 3.9', "lut.json"),
        ('{"0": {"0": 3.9, "0": 3.8}}', "lut.json"),
        ('{"0": {"0": 3.9}, "0": {"1": 3.8}}', "lut.json"),
        ('{"0": [3.9]}', "lut.json"),
        ('{"0": 3.9}', "lut.json"),
        ('{"0": {"0": 3.9}, "stem": {"0": 3.9}}', "lut.json"),
        ("0: {0: 3.9}", "lut.yaml"),
        ("a: {mean: 3", "lut.yaml"),
        (f"{BLOCK}: {{mean: 1}}\n{BLOCK}: {{mean: 1}}\n", "lut.yaml"),
        (f"{BLOCK}: &a {{mean: 1}}\nConv-input:8x8x3-output:4x4x8: *a\n", "lut.yaml"),
        (f"- {BLOCK}\n", "lut.yaml"),
        ("shuffle-input:8x8x24: {mean: 1}\n", "lut.yaml"),
        ("kind: latency_table\n", "lut.yaml"),
        ("[" * 100_000, "lut.json"),
        ("a\x00b", "lut.yaml"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, name: str) -> None:
    refusal(tmp_path, text, name, file=name)


def test_the_known_forms_are_named(tmp_path: Path) -> None:
    refusal(tmp_path, {"a": 1}, "ProxylessNAS", "once-for-all", "Single-Path NAS")


def test_no_entry_of_use_is_refused_with_reasons(tmp_path: Path) -> None:
    rows = {f"expanded_conv-input:8x{n}x24-output:8x{n}x24": {"mean": 1.0} for n in range(1, 6)}
    refusal(tmp_path, rows, "no entry of this proxylessnas table can be mapped", "8x3x24", "and 2 more")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        import_published(tmp_path / "none.yaml")
    assert one_line(caught.value, "cannot read the file")


def test_the_device_must_be_known(tmp_path: Path) -> None:
    refusal(tmp_path, keyed(PROXYLESS), "--device-name", device_name="")
    refusal(tmp_path, keyed(PROXYLESS), "threads must be", threads=0)
    refusal(tmp_path, keyed(PROXYLESS), "runtime must be", runtime="")
    refusal(tmp_path, keyed(PROXYLESS), "name must be", name="two\nlines")
