"""What the README says can be typed, can be typed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
from support import nas

from nas.cli import run

ROOT = Path(__file__).parents[1]
TEXTS = [ROOT / "README.md", ROOT / "docs" / "files.md"]
README = TEXTS[0].read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_two_commands() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "test-all", "check"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def commands() -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("console") for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ nas ")]


@pytest.mark.parametrize("command", commands())
def test_commands(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches are shortened, and what takes minutes, or needs the run of another command, is left out."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[1:]
    if words[0] == "search":
        words[words.index("--budget") + 1] = "1"
        words += [] if {"--final-proxy", "--final-seeds"} & set(words) else ["--finalists", "0"]
        words = [word.replace("imagefolder:photos", "digits").replace("npz:mine.npz", "digits") for word in words]
    if "latency" in command:
        pytest.skip("takes minutes: see test_the_commands_about_latency")
    if words[0] in ("resume", "export") or words == ["show"] or words[:2] == ["scale", "--phi"]:
        pytest.skip("needs the run of the command before; covered by test_cli.py")
    assert run(words) == 0


@pytest.mark.slow
def test_the_commands_about_latency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written but for the budget, one after another: later ones use the table of the first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    about_latency = [command for command in commands() if "latency" in command]
    assert len(about_latency) == 5
    for command in about_latency:
        words = shlex.split(command)[1:]
        if words[0] == "search":
            words[words.index("--budget") + 1] = "2"
        done = nas(*words, cwd=tmp_path, timeout=1800)
        assert done.returncode == 0, done.stderr


def test_the_five_lines_of_python_run_as_a_script(tmp_path: Path) -> None:
    (code,) = blocks("python")
    script = tmp_path / "five.py"
    script.write_text(re.sub(r"budget=\d+", "budget=2, finalists=0", code))
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout


def test_the_example_files_load(tmp_path: Path) -> None:
    from search_space import load_architecture, load_space

    network, space, stage = re.findall(r"```yaml\n(.*?)```", TEXTS[1].read_text(), re.DOTALL)
    (tmp_path / "network.yaml").write_text(network)
    (tmp_path / "space.yaml").write_text(space)
    (tmp_path / "with-op.yaml").write_text(space.replace("head:", f"{stage}head:"))
    assert load_architecture(tmp_path / "network.yaml").name == "my-network"
    assert load_space(tmp_path / "space.yaml").size > 1
    assert load_space(tmp_path / "with-op.yaml").size > load_space(tmp_path / "space.yaml").size


def test_every_zero_cost_score_is_named_where_they_are_listed() -> None:
    from evaluators.zero_cost import NAMES
    from nas.cli.search import search

    rows = [line for line in (ROOT / "docs" / "zero-cost.md").read_text().splitlines() if line.startswith("| `")]
    in_the_table = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(NAMES) <= in_the_table
    (option,) = get_type_hints(search, include_extras=True)["evaluator"].__metadata__
    in_the_help = option.help.partition("zero-cost:NAME: ")[2].partition(";")[0]
    assert set(NAMES) == set(re.split(r", | or ", in_the_help))
