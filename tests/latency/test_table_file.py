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
from fakes import CONDITIONS, hand_made, one_line
from support import SMALL_SPACE, TINY_SPACE, space

from latency import Conditions, LatencyTable, Times, load_table, save_table
from latency.table import PUBLISHED, Calibration
from search_space import InputError, load_architecture, save_architecture
from search_space.parts import parts


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "table.json"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A valid table's file."""
    made = tmp_path_factory.mktemp("valid") / "table.json"
    save_table(hand_made(space(TINY_SPACE)), made)
    return made.read_text()


@pytest.fixture
def plain(text: str) -> dict[str, Any]:
    """A valid table's data."""
    made: dict[str, Any] = json.loads(text)
    return made


def refusal(file: Path) -> str:
    """What is said against the file."""
    with pytest.raises(InputError) as caught:
        load_table(file)
    assert one_line(caught.value, file), str(caught.value)
    return str(caught.value)


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
    assert re.search(said, refusal(file))


def test_another_kind_of_file_is_refused(file: Path) -> None:
    for other in (file, file.with_suffix(".yaml")):
        save_architecture(load_architecture("mobilenetv2"), other)
        assert "not a latency table" in refusal(other)
        assert "nas latency build" in refusal(other)


def test_a_place_without_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "No such file" in refusal(Path("nowhere.json"))
    assert "Is a directory" in refusal(Path())


def test_a_file_cut_off_anywhere_is_refused(text: str, file: Path) -> None:
    end = len(text.rstrip())
    for length in [*range(0, end, 97), *range(end - 40, end)]:
        file.write_text(text[:length])
        refusal(file)


# Tables with something wrong in them.

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
    message = refusal(file)
    assert said in message
    assert place in message


def test_the_row_is_named(plain: dict[str, Any], file: Path) -> None:
    plain["signatures"][3]["p10_ms"] = -1
    file.write_text(json.dumps(plain))
    assert f"({file}, signatures[3]" in refusal(file)
    plain["signatures"][3] = {**plain["signatures"][1]}
    file.write_text(json.dumps(plain))
    message = refusal(file)
    assert "only once" in message
    assert "signatures[1]" in message
    assert f"({file}, signatures[3]" in message


def test_a_row_in_two_spellings_stands_twice(plain: dict[str, Any], file: Path) -> None:
    """A field without effect does not make another signature."""
    row = next(row for row in plain["signatures"] if row["part"] == "block" and row.get("se_ratio") == 0)
    plain["signatures"].append({**row, "se_variant": "mobilenetv3"})
    file.write_text(json.dumps(plain))
    assert "only once" in refusal(file)


@pytest.mark.parametrize("factor", [1000, 1e-3, 2, 0.4])
def test_times_that_contradict_the_tables_own_networks_are_refused(
    factor: float, plain: dict[str, Any], file: Path
) -> None:
    for row in plain["signatures"]:
        row.update({name: value * factor for name, value in row.items() if name.endswith("_ms")})
    file.write_text(json.dumps(plain))
    message = refusal(file)
    assert "must agree with its own calibration networks" in message
    assert "milliseconds" in message


def test_networks_in_another_unit_are_refused(plain: dict[str, Any], file: Path) -> None:
    network = plain["calibration"]["networks"][2]
    network.update({name: value * 1000 for name, value in network.items() if name.endswith("_ms")})
    file.write_text(json.dumps(plain))
    assert "networks[2]" in refusal(file)


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
        HUGE,
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
    assert "must have the unit of the others" in refusal(file)
