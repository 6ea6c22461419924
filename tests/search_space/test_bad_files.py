"""Malformed files: each is refused in one line with file, line, field path, rule, value and remedy."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from search_space import InputError, load_architecture, load_space, presets

ARCHITECTURE = """schema_version: 1
name: tiny
resolution: 32
stem: {type: conv, out_channels: 8}
stages:
- {type: mbconv, num_layers: 2, out_channels: 16, stride: 2, kernel_size: 3}
- type: conv
  out_channels: 24
head: {type: pooled, conv_channels: 32}
"""
MAPPING = "must be a mapping of names to values"

# What is replaced, by what -> a piece of the message, `FILE` standing for the path.
ARCHITECTURES = [
    ("name: tiny", "nmae: tiny", "the file has no field of this name, got 'nmae' (FILE:2, nmae); did you mean name?"),
    ("resolution: 32\n", "", "the file needs resolution (FILE:1); add resolution"),
    (
        "version: 1",
        "version: 2",
        "schema_version must be 1, got 2 (FILE:1, schema_version); update nas, or mend the file",
    ),
    ("version: 1", "version: '1'", "schema_version must be 1, got '1' (FILE:1, schema_version); update nas, or mend"),
    ("version: 1", "version: true", "schema_version must be 1, got True (FILE:1, schema_version); update nas, or mend"),
    ("name: tiny", "name: 3", "name must be text on one line, 1 to 200 characters, got 3 (FILE:2, name); write a word"),
    ("name: tiny", 'name: "a\\nb"', "1 to 200 characters, got 'a\\nb' (FILE:2, name); write a word or a few"),
    (
        "32\n",
        "x\n",
        "resolution must be a whole number, got 'x' (FILE:3, resolution); use a whole number from 1 to 8192",
    ),
    ("32\n", "3.0\n", "resolution must be a whole number, got 3.0 (FILE:3, resolution); use a whole number from 1"),
    ("32\n", "true\n", "resolution must be a whole number, got True (FILE:3, resolution); use a whole number"),
    ("32\n", ".inf\n", "resolution must be a whole number, got inf (FILE:3, resolution); use a whole number"),
    ("32\n", "-1\n", "resolution must be 1 to 8192, got -1 (FILE:3, resolution); use a whole number from 1 to 8192"),
    (
        "32\n",
        "3\n",
        "resolution must be at least the product of all strides, 4, got 3 (FILE:3, resolution); raise it or",
    ),
    ("32\n", "9" * 400 + "\n", "resolution must be 1 to 8192, got 99999999"),
    ("32\n", "9" * 5000 + "\n", "FILE:3"),
    ("32\n", "0x" + "f" * 5000 + "\n", "resolution must be a whole number, got '0xfff"),
    ("32\n", "2020-13-45\n", "FILE:3"),
    ("32\n", "!!timestamp x\n", "FILE:3"),
    ("32\n", "!!bool x\n", "FILE:3"),
    ("32\n", "!!int ''\n", "FILE:3"),
    ("32\n", "!!float ''\n", "FILE:3"),
    ("32\n", "!!python/object:os.system {}\n", "not valid YAML: could not determine a constructor for the tag"),
    ("32\n", "32\nnorm_eps: .nan\n", "norm_eps must be 0 to 1, got nan (FILE:4, norm_eps); use a number from 0 to 1"),
    (
        "32\n",
        "32\nprovenance: [a]\n",
        f"provenance {MAPPING}, got ['a'] (FILE:4, provenance); write `name: value` lines",
    ),
    ("8}", "8, 9}", "stem"),
    ("out_channels: 8", "out_chanels: 8", "got 'out_chanels' (FILE:4, stem.out_chanels); did you mean out_channels?"),
    (
        "mbconv,",
        "mbcov,",
        "block type must be a known name, got 'mbcov' (FILE:6, stages[0].type); did you mean mbconv?",
    ),
    (
        "mbconv,",
        "{choice: [mbconv]},",
        "block type must be a known name, got {'choice': ['mbconv']} (FILE:6, stages[0]",
    ),
    ("type: mbconv, ", "", "a block needs a type (FILE:6, stages[0]); add one of condconv, conv"),
    ("size: 3", "size: 4", "kernel_size must be odd, got 4 (FILE:6, stages[0].kernel_size); use 3 or 5"),
    (
        "size: 3",
        "size: 33",
        "kernel_size must be 1 to 31, got 33 (FILE:6, stages[0].kernel_size); use an odd whole number",
    ),
    (
        "size: 3",
        "size: 3, expand_ratio: .nan",
        "expand_ratio must be 0.25 to 64, got nan (FILE:6, stages[0].expand_ratio)",
    ),
    (
        "layers: 2",
        "layers: 0",
        "num_layers must be 1 to 1000, got 0 (FILE:6, stages[0].num_layers); use a whole number",
    ),
    (
        "layers: 2",
        "layers: 1000",
        "a network needs 1 to 1,000 blocks that do something, got 1001 (FILE:5, stages); change",
    ),
    (
        "layers: 2",
        "layers: 2, num_layers: 2",
        "a key may stand only once, got 'num_layers' (FILE:6, stages[0]); remove",
    ),
    ("channels: 16", "channels: 99999", "out_channels must be 1 to 65536, got 99999 (FILE:6, stages[0].out_channels)"),
    ("- type: conv\n  out", "- out", "a block needs a type (FILE:7, stages[1]); add one of condconv, conv"),
    ("  out_channels: 24\n", "", "conv needs out_channels (FILE:7, stages[1]); add out_channels"),
    (
        "channels: 24",
        "channels: 24\n  expand_ratio: 6",
        "conv has no field of this name, got 'expand_ratio' (FILE:9, sta",
    ),
    ("- type: conv\n  out_channels: 24", "- conv", f"stages[1] {MAPPING}, got 'conv' (FILE:7, stages[1]); write `name"),
    (
        "head: {type: pooled, conv_channels: 32}",
        "head:",
        f"head {MAPPING}, got None (FILE:9, head); write `name: value",
    ),
    (
        "pooled, conv",
        "pooled, dropout: 1, conv",
        "dropout must be 0 to below 1, got 1 (FILE:9, head.dropout); use a num",
    ),
    (
        "32}",
        "&a 32}\nprovenance: {a: *a}",
        "aliases (`*name`) are not supported (FILE:10, provenance.a); write the val",
    ),
    ("  out", "\tout", "not valid YAML: "),
    (
        "name: tiny",
        "name: tiny\n---\nname: tiny",
        "not valid YAML: but found another document (FILE:3); mend the syntax",
    ),
    ("name: tiny", "<<: {name: tiny}", "the file has no field of this name, got '<<' (FILE:2, <<)"),
    ("name: tiny", "2: tiny", "a key must be a word, got '2' (FILE:2); write it in quotes if it is one"),
    ("name: tiny", "name: ti\x1bny", "a file must be plain text, without control characters (FILE:2)"),
]
WHOLE_FILES = [
    ("a.yaml", b"", "the file is empty (FILE); see the examples in docs/files.md"),
    ("a.yaml", b"# nothing\n", "the file is empty (FILE)"),
    ("a.yaml", b"- a\n", f"the file {MAPPING}, got ['a'] (FILE:1); write `name: value` lines"),
    ("a.yaml", b"null\n", f"the file {MAPPING}, got None (FILE:1)"),
    ("a.yaml", b"a: 1\na: 2\n", "a key may stand only once, got 'a' (FILE:2); remove one"),
    ("a.yaml", b"a: [1\nb: 2", "not valid YAML: "),
    ("a.yaml", b"\xff\xfea\x00", "a file must be UTF-8 text: invalid start byte at byte 0 (FILE)"),
    ("a.yaml", bytes(range(128)), "a file must be plain text, without control characters (FILE:1)"),
    ("a.yaml", b"a" * 4_000_001, "a file may have at most 4,000,000 bytes (FILE); is it the right file?"),
    ("a.yaml", b"- " * 50 + b"a", "a file may be nested at most 40 deep (FILE:1, [0][0]"),
    ("a.yaml", b"[" * 100_000, "the file is nested too deeply"),
    ("a.json", b"", "not valid JSON: Expecting value (FILE:1); mend the syntax"),
    ("a.json", b'{"a": 1,\n "b": [1,]}', "not valid JSON: "),
    (
        "a.json",
        b"{a: 1}",
        "not valid JSON: Expecting property name enclosed in double quotes (FILE:1); mend the syntax",
    ),
    ("a.json", b'{"a": 1, "a": 2}', "a key may stand only once, got 'a' (FILE:1); remove one"),
    ("a.json", b"[" * 100_000, "the file is nested too deeply (FILE); flatten it"),
    ("a.json", b"[1]", f"the file {MAPPING}, got [1] (FILE:1)"),
]


def refusal(load: object, path: object) -> str:
    with pytest.raises(InputError) as caught:
        load(path)  # type: ignore[operator]
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_the_unbroken_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(ARCHITECTURE)
    assert load_architecture(path).total_stride == 4


@pytest.mark.parametrize(("old", "new", "message"), ARCHITECTURES)
def test_broken_architecture(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in ARCHITECTURE
    path = tmp_path / "a.yaml"
    path.write_text(ARCHITECTURE.replace(old, new, 1))
    assert message.replace("FILE", str(path)) in refusal(load_architecture, path)


@pytest.mark.parametrize("load", [load_architecture, load_space])
@pytest.mark.parametrize(("name", "content", "message"), WHOLE_FILES, ids=range(len(WHOLE_FILES)))
def test_not_a_description_at_all(load: object, name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert message.replace("FILE", str(path)) in refusal(load, path)


@pytest.mark.parametrize("load", [load_architecture, load_space])
def test_not_a_file(load: object, tmp_path: Path) -> None:
    assert refusal(load, tmp_path).startswith(f"cannot read the file: Is a directory, got '{str(tmp_path)[:20]}")
    assert "cannot read the file: No such file" in refusal(load, tmp_path / "none.yaml")
    assert "not a file name" in refusal(load, "a\0b.yaml")


def test_misspelt_names_get_the_nearest_one() -> None:
    message = refusal(load_architecture, "mobilenetv3-big")
    assert message.startswith(
        "references hold no such name, nor is it a file, got 'mobilenetv3-big'; did you mean mobilen"
    )
    assert refusal(load_space, "mobilnetv2").endswith("got 'mobilnetv2'; did you mean mobilenetv2?")
    *most, last = presets()
    assert f"use {', '.join(most)} or {last}" in refusal(load_space, "zzz")


def test_newer_schemas_are_told_before_their_new_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(ARCHITECTURE.replace("version: 1", "version: 2") + "new_field: 1\n")
    assert "schema_version must be 1, got 2" in refusal(load_architecture, path)


def test_numbers_to_the_base_of_sixty_do_not_hang(tmp_path: Path) -> None:
    # YAML 1.1 reads 1:1:1 as 3661, in quadratic time; a file may have two million such digits.
    path = tmp_path / "a.yaml"
    path.write_text(ARCHITECTURE.replace("32\n", "1:" * 150_000 + "1\n", 1))
    start = time.process_time()
    refusal(load_architecture, path)
    assert time.process_time() - start < 2
