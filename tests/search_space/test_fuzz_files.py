"""Mangled built-in files: whatever is done to them, they load or are refused in one line, quickly."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from search_space import InputError, presets, references
from search_space.architecture_file import parse_architecture
from search_space.built_in import built_in
from search_space.documents import read_document
from search_space.space_file import parse_space

NASTY = [
    *("0", "-1", "1", "2", "3", "4", "1e400", "1e-400", ".nan", "-.inf", "9" * 30, "9" * 5000, "0x" + "f" * 4000),
    *("null", "~", "true", "''", "'a'", '"\\n"', '"\\0"', '"\\ud800"', "[]", "{}", "[[]]", "{a: 1}", "[1, 2]"),
    *("{choice: []}", "{choice: [1]}", "{choice: [1, 1]}", "{choice: [1, 2], per: block}", "{choice: {}}", "{per: x}"),
    *("{choice: [1, 1.0]}", "{choice: [3, 5], per: stage}", "{choice: [16, 24], per: block}", "{choice: [[1]]}"),
    *(
        "2020-01-01",
        "2020-13-45",
        "!!int x",
        "!!int ''",
        "!!bool x",
        "!!timestamp x",
        "!!binary a",
        "!x 1",
        "!!set {a}",
    ),
    *(
        "&a 1",
        "*a",
        "<<",
        "=",
        "1:99:1",
        "|",
        ">",
        "@",
        "%",
        "? x",
        "- x",
        "0b1",
        "017",
        "1_000",
        "é",
        "\u2028",
        "\x00",
    ),
    *("mbconv", "conv", "pooled", "silu", "{choice: [mbconv, conv], per: block}", "[" * 60, "{a: " * 60, "x" * 3000),
]
Mangle = Callable[[random.Random, str], bytes]


def flip_bytes(rng: random.Random, text: str) -> bytes:
    raw = bytearray(text.encode())
    for _ in range(rng.randint(1, 4)):
        raw[rng.randrange(len(raw))] = rng.choice([rng.randrange(256), rng.choice(b"\n\t :,[]{}'\"#&*!-0123456789")])
    return bytes(raw)


def delete(rng: random.Random, text: str) -> bytes:
    start = rng.randrange(len(text))
    return (text[:start] + text[start + rng.randint(1, 60) :]).encode()


def truncate(rng: random.Random, text: str) -> bytes:
    return text.encode()[: rng.randrange(len(text))]


def shuffle_lines(rng: random.Random, text: str) -> bytes:
    lines = text.splitlines(keepends=True)
    for _ in range(rng.randint(1, 3)):
        a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[a], lines[b] = lines[b], lines[a]
    if rng.random() < 0.3:
        lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return "".join(lines).encode()


def swap_value(rng: random.Random, text: str) -> bytes:
    """Put something nasty in the place of what follows a colon."""
    colon = rng.choice([i for i, c in enumerate(text) if text[i : i + 2] == ": "])
    end = next((i for i in range(colon + 2, len(text)) if text[i] in ",}]\n"), len(text))
    return (text[: colon + 2] + rng.choice(NASTY) + text[end:]).encode("utf-8", "surrogatepass")


def swap_key(rng: random.Random, text: str) -> bytes:
    words = [
        "type",
        "num_layers",
        "stride",
        "choice",
        "per",
        "name",
        "se_variant",
        "3",
        "null",
        "",
        "a.b",
        "é",
        "x" * 2000,
    ]
    colon = rng.choice([i for i, c in enumerate(text) if text[i : i + 2] == ": "])
    start = max(text.rfind(c, 0, colon) for c in " {\n") + 1
    return (text[:start] + rng.choice(words) + text[colon:]).encode()


def nest(rng: random.Random, text: str) -> bytes:
    depth = rng.choice([1, 5, 50, 2000])
    indented = "\n".join("  " + line for line in text.splitlines())
    return rng.choice(
        [f"a:\n{indented}\n", "[" * depth + text, "- " * depth + "a\n" + text, text * 2, f"{{{text}}}"]
    ).encode()


MANGLES: list[Mangle] = [
    flip_bytes,
    delete,
    truncate,
    shuffle_lines,
    swap_value,
    swap_value,
    swap_value,
    swap_key,
    nest,
]
CASES = 115  # for each of nine ways of mangling and both kinds of file: 2,070


def refusal(kind: str, path: Path) -> str | None:
    """What is said against the file, or None if it loads; then it must be usable, too."""
    try:
        document = read_document(path)
        if kind == "references":
            assert len(parse_architecture(document).arch_id) == 12
            return None
        space = parse_space(document)
    except InputError as error:
        return str(error)
    assert 1 <= space.size <= space.num_genotypes
    for seed in range(3):
        space.decode(space.sample(np.random.default_rng(seed)))
    return None


@pytest.mark.parametrize("kind", ["references", "spaces"])
@pytest.mark.parametrize("way", range(len(MANGLES)))
def test_mangled_file_loads_or_is_refused_in_one_line(kind: str, way: int, tmp_path: Path) -> None:
    rng = random.Random(f"{kind} {way}")
    path = tmp_path / "mangled.yaml"
    names = references() if kind == "references" else presets()
    texts = [built_in(kind)[name].read_text() for name in names]
    loaded = 0
    for _ in range(CASES):
        raw = MANGLES[way](rng, rng.choice(texts))
        path.write_bytes(raw)
        start = time.process_time()
        try:
            message = refusal(kind, path)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} from {raw!r}") from error
        assert time.process_time() - start < 5, raw
        assert message is None or (len(message.splitlines()) == 1 and str(path) in message), raw
        loaded += message is None
    assert loaded < CASES  # the mangling mangles
