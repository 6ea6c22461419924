"""The table's file: nothing is lost by a round trip, and whatever else lies there is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import CONDITIONS, hand_made, one_line, table_refusal
from support import SMALL_SPACE, TINY_SPACE, space

from latency import Conditions, LatencyTable, Times, load_table, save_table
from latency.table import PUBLISHED, Calibration
from search_space import InputError, load_architecture, save_architecture
from search_space.parts import parts

# What comes back.


@pytest.mark.parametrize("described", [SMALL_SPACE, TINY_SPACE])
def test_a_table_comes_back_equal(described: str, file: Path) -> None:
    table = hand_made(space(described))
    save_table(table, file)
    assert load_table(file) == table
    assert list(load_table(file).times) == list(table.times)
    first = file.read_bytes()
    save_table(load_table(file), file)
    assert file.read_bytes() == first


def test_conditions_and_sparse_times_come_back_equal(file: Path) -> None:
    network = load_architecture("mobilenetv2").replace(num_classes=7)
    conditions = Conditions(
        "tflite", 'Pixel 1 — «quoted» "text"', "big core", 4, "float16", 8, "channels_last", {"tflite": "2.1", "n": [1]}
    )
    times = {shape: Times(1, mean_ms=0.1 * (1 + index)) for index, shape in enumerate(dict.fromkeys(parts(network)))}
    table = LatencyTable("published", conditions, times, PUBLISHED, Calibration(), {"doi": None, "authors": ["Å", 1.5]})
    save_table(table, file)
    assert load_table(file) == table


def test_any_reader_can_read_it_and_sees_the_unit(text: str, file: Path) -> None:
    plain = json.loads(text)
    assert yaml.safe_load(text) == plain
    for row in (*plain["signatures"], *plain["calibration"]["networks"]):
        times = {name for name, value in row.items() if isinstance(value, float) and value < 10}
        assert times >= {"min_ms", "p10_ms", "p50_ms", "p90_ms"}
        assert all(name.endswith("_ms") for name in times)
    assert "fixed_overhead_ms" in plain["calibration"]
    assert {"in_channels", "size_px"} <= set(plain["signatures"][0])


def test_short_times_are_numbers_to_any_reader_too(file: Path) -> None:
    shape, *_ = parts(load_architecture("mobilenetv2"))
    source = {"text": '1e-05 "2e-05" \\', "1e-05": [1e-05, 2.5e-07, 1e300, -3e-09]}
    table = LatencyTable("short", CONDITIONS, {shape: Times(1, p10_ms=1e-05, p50_ms=2.5e-05)}, source=source)
    save_table(table, file)
    assert yaml.safe_load(file.read_text()) == json.loads(file.read_text())
    assert load_table(file) == table


def test_a_table_written_by_hand_in_yaml_loads(plain: dict[str, Any], text: str, file: Path) -> None:
    file.write_text(text)
    by_hand = file.with_suffix(".yaml")
    by_hand.write_text(yaml.safe_dump(plain))
    assert load_table(by_hand) == load_table(file)


def test_what_cannot_be_written_leaves_what_was_there(file: Path) -> None:
    table = hand_made(space(TINY_SPACE))
    save_table(table, file)
    with pytest.raises(InputError, match="cannot write"):
        save_table(table, file / "below-a-file.json")
    assert load_table(file) == table
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_table_that_could_not_be_loaded_cannot_be_made() -> None:
    shape, *_ = parts(load_architecture("mobilenetv2"))
    with pytest.raises(InputError, match="at least one signature"):
        LatencyTable("empty", CONDITIONS, {})
    with pytest.raises(InputError, match="every signature needs p10_ms"):
        LatencyTable("sparse", CONDITIONS, {shape: Times(1, mean_ms=1.0)})
    with pytest.raises(InputError, match="statistic must be"):
        LatencyTable("median", CONDITIONS, {shape: Times(1, p50_ms=1.0)}, "p50_ms")


# Files that are not tables.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"   \n", "empty"),
        (b"\xff\xfe\x00\x01" * 40, "UTF-8"),
        (b"\x00" * 40, "plain text"),
        (b"[]", "not a latency table"),
        (b"3", "not a latency table"),
        (b"{}", "not a latency table"),
        (b'{"kind": "latency_table"}', "needs schema_version"),
        (b"kind: latency_table\n", "needs schema_version"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 100_000, "nested|not valid"),
        (b"{" + b"9" * 10_000, "not valid JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b"\x89PNG\r\n\x1a\n", "UTF-8"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_what_is_no_table_is_refused(content: bytes, said: str, file: Path) -> None:
    file.write_bytes(content)
    assert re.search(said, table_refusal(file))


def test_another_kind_of_file_is_refused(file: Path) -> None:
    for other in (file, file.with_suffix(".yaml")):
        save_architecture(load_architecture("mobilenetv2"), other)
        assert "not a latency table" in table_refusal(other)
        assert "nas latency build" in table_refusal(other)


def test_a_place_without_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "No such file" in table_refusal(Path("nowhere.json"))
    assert "Is a directory" in table_refusal(Path())


def test_a_file_cut_off_anywhere_is_refused(text: str, file: Path) -> None:
    end = len(text.rstrip())
    for length in [*range(0, end, 97), *range(end - 40, end)]:
        file.write_text(text[:length])
        table_refusal(file)


# Anything at all.

NASTY = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        3,
        7,
        0.5,
        -0.0,
        1e308,
        1e-308,
        math.nan,
        math.inf,
        10**400,
        2**63,
        "",
        "mbconv",
        "\x00",
    ),
    *(
        "\ud800",
        "\n",
        "é",
        [],
        [[]],
        [1, 2],
        {},
        {"": 1},
        {"type": "mbconv"},
        "stem",
        "head",
        "x" * 500,
        "p10_ms",
        "1.5",
    ),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in pairs for place in ((value, key), *places(item))]


def edit_values(rng: random.Random, text: str) -> bytes:
    """Change, take away, copy and rename values."""
    plain = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        container, key = rng.choice(places(plain))
        how = rng.randrange(5)
        if how < 2:
            container[key] = rng.choice(NASTY)
        elif how == 2:
            del container[key]
        elif how == 3:
            other, name = rng.choice(places(plain))
            container[key] = json.loads(json.dumps(other[name]))
        elif isinstance(container, dict):
            container[str(rng.choice(NASTY))] = container.pop(key)
    return json.dumps(plain).encode("utf-8", "surrogatepass")


def edit_text(rng: random.Random, text: str) -> bytes:
    """Change, take away and move pieces of the text."""
    raw = bytearray(text.encode())
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(raw))
        end = start + rng.choice([1, 1, 2, 8, 60])
        piece = rng.choice(
            [b"", bytes([rng.randrange(256)]), *(bytes([c]) for c in b',:{}[]"0-.eE9 \n'), raw[start:end] * 2]
        )
        raw[start:end] = piece
    return bytes(raw)


@pytest.mark.parametrize("edit", [edit_values, edit_text])
def test_an_edited_file_loads_or_is_refused_in_one_line(
    edit: Callable[[random.Random, str], bytes], text: str, file: Path
) -> None:
    rng = random.Random(edit.__name__)
    loaded = 0
    for _ in range(400):
        raw = edit(rng, text)
        file.write_bytes(raw)
        try:
            table, error = load_table(file), None
        except InputError as refused:
            error = refused
        except Exception as unexpected:
            raise AssertionError(f"{type(unexpected).__name__} ({unexpected}) from {raw!r}") from unexpected
        if error is not None:
            assert one_line(error, file), raw
            continue
        loaded += 1
        save_table(table, file)
        assert load_table(file) == table, raw
    assert 0 < loaded < 400  # some edits do no harm


def test_a_table_of_other_conditions_says_how_they_differ() -> None:
    other = dataclasses.replace(CONDITIONS, threads=2, device_name="Other CPU")
    assert CONDITIONS.differences(other) == [
        "device_name Fake CPU @ 1 Hz against Other CPU",
        "threads 1 against 2",
    ]
    assert str(other) == "fake on Other CPU, 2 threads, float32"


def test_a_key_that_stands_twice_is_refused(text: str, file: Path) -> None:
    file.write_text(text.replace('"statistic":', '"statistic": "mean_ms", "statistic":', 1))
    with pytest.raises(InputError, match="only once") as caught:
        load_table(file)
    assert one_line(caught.value, file.name)


def test_a_table_that_lost_a_line_is_still_a_table(plain: dict[str, Any], file: Path) -> None:
    gone = plain["signatures"].pop()
    file.write_text(json.dumps(plain))
    assert len(load_table(file).times) == len(plain["signatures"])
    assert gone["part"] == "head"


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_single_line_in_another_unit_is_refused(factor: float, file: Path) -> None:
    save_table(hand_made(space(SMALL_SPACE)), file)
    plain = json.loads(file.read_text())
    row = next(row for row in plain["signatures"] if row["type"] == "mbconv")
    for name in ("min_ms", "p10_ms", "p50_ms", "p90_ms"):
        row[name] *= factor
    plain["calibration"]["networks"] = []
    file.write_text(json.dumps(plain))
    assert "must have the unit of the others" in table_refusal(file)
