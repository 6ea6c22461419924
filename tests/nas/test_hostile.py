"""Broken run folders and hostile surroundings: one line, nothing lost, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import SMALL_SPACE, nas

from nas.cli import run
from search_space import InputError, load_architecture, load_space, save_architecture


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(SMALL_SPACE)
    # A file of the user's with the name of a module of ours must not stand in for it.
    (folder / "evaluators.py").write_text("raise SystemExit(3)")
    search = ("search", "--space", "small.yaml", "--budget", "3", "--out", "run", "--workers", "2")
    done = nas(*search, "--final-proxy", "quick", "--final-seeds", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "3 complete" in done.stdout
    return folder / "run"


def broken_copy(finished: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    copy = folder / "run"
    copy.mkdir()
    for name in ("run.yaml", "journal.log"):
        (copy / name).write_bytes((finished / name).read_bytes())
    plain = yaml.safe_load((copy / "run.yaml").read_text())
    change(plain)
    (copy / "run.yaml").write_text(yaml.safe_dump(plain))
    return copy


RUN_FILES: list[Callable[[dict[str, Any]], None]] = [
    lambda plain: plain.update(evaluator=[]),
    lambda plain: plain.update(evaluator={}),
    lambda plain: plain.update(versions=3),
    lambda plain: plain.update(schema_version=2),
    lambda plain: plain["evaluator"].pop("data"),
    lambda plain: plain["evaluator"].pop("recipe"),
    lambda plain: plain["evaluator"].update(recipe=[]),
    lambda plain: plain["evaluator"]["recipe"].update(epochs="two"),
    lambda plain: plain["evaluator"]["recipe"].update(batch_size=0),
    lambda plain: plain["evaluator"]["recipe"].update(unknown=0),
    lambda plain: plain["evaluator"]["data"].update(fingerprint="0"),
    lambda plain: plain["settings"].update(objective="nope"),
    lambda plain: plain["settings"].update(workers=0),
    lambda plain: plain["settings"].update(workers="2"),
    lambda plain: plain["settings"].pop("seed"),
    lambda plain: plain["settings"].update(constraints="macs<=1M"),
    lambda plain: plain["settings"].update(constraints=[3]),
    lambda plain: plain["space"]["stages"][0].update(out_channels={"choice": [8, 24]}),
    lambda plain: plain["space"].update(stages=[]),
    lambda plain: plain.pop("space"),
    lambda plain: plain.pop("final"),
    lambda plain: plain.update(final=[]),
    lambda plain: plain["final"].pop("recipe"),
    lambda plain: plain["final"].update(data=[]),
    lambda plain: plain["final"]["data"].update(fingerprint="0"),
    lambda plain: plain["final"]["recipe"].update(epochs=0),
    lambda plain: plain["final"]["recipe"].update(unknown=0),
    lambda plain: plain["settings"].update(final_seeds=0),
    lambda plain: plain["settings"].update(final_proxy="x", finalists=0),
]


@pytest.mark.parametrize("change", RUN_FILES, ids=range(len(RUN_FILES)))
def test_a_broken_run_yaml_is_one_line(
    change: Callable[[dict[str, Any]], None], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = broken_copy(finished, tmp_path, change)
    before = (copy / "journal.log").read_bytes()
    assert run(["resume", str(copy)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith("error: ")
    assert (copy / "journal.log").read_bytes() == before


def edit(line: str, **changes: Any) -> str:
    row = json.loads(line)
    for name, value in changes.items():
        row["user_attrs"][name] = value
    return json.dumps(row)


JOURNALS: list[Callable[[list[str]], list[str]]] = [
    lambda lines: [lines[0], "[]", *lines[1:]],
    lambda lines: [lines[0], "null", *lines[1:]],
    lambda lines: [*lines[:2], lines[1], *lines[2:]],
    lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    lambda lines: [lines[0], edit(lines[1], ask="x"), *lines[2:]],
    lambda lines: [lines[0], edit(lines[1], accuracy="x"), *lines[2:]],
    lambda lines: [lines[0], edit(lines[1], arch_id="other"), *lines[2:]],
    lambda lines: [lines[0], edit(lines[1], rejected="x"), *lines[2:]],
    lambda lines: [lines[0], lines[1].replace("user_attrs", "users"), *lines[2:]],
    lambda lines: [lines[0], lines[1].replace('"params"', '"param"'), *lines[2:]],
    lambda lines: ["garbage", *lines],
]


@pytest.mark.parametrize("change", JOURNALS, ids=range(len(JOURNALS)))
def test_a_broken_journal_is_one_line(
    change: Callable[[list[str]], list[str]], finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = broken_copy(finished, tmp_path, lambda plain: None)
    lines = (copy / "journal.log").read_text().splitlines()
    (copy / "journal.log").write_text("\n".join(change(lines)) + "\n")
    assert run(["resume", str(copy)]) == 2
    assert "journal" in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_with_nothing_but_a_lock_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    search = ("search", "--space", "small.yaml", "--budget", "1", "--out", "run", "--time-limit", "0.001s")
    done = nas(*search, cwd=tmp_path)
    assert "the time limit was reached before the first trial" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize("change", ["num_classes: 2", "input_channels: 4"])
def test_a_space_that_does_not_suit_the_data_is_refused(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL_SPACE.replace("name: small", f"name: small\n{change}"))
    out = tmp_path / "run"
    assert run(["search", "--space", str(tmp_path / "small.yaml"), "--budget", "1", "--out", str(out)]) == 2
    assert change.split(":")[0] in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "text", ["12345e678901", "089123456789", "1e3", "0x10", "no", "1:30", "~", "null", "2020-01-01"]
)
def test_words_that_look_like_something_else_survive_a_file(text: str, tmp_path: Path) -> None:
    network = load_architecture("mobilenetv3-small").replace(name=text, provenance={"arch_id": text})
    save_architecture(network, tmp_path / "a.yaml")
    assert load_architecture(tmp_path / "a.yaml").name == text
    assert load_architecture(tmp_path / "a.yaml").provenance == {"arch_id": text}


def test_python_misuse_is_an_input_error(tmp_path: Path) -> None:
    import nas as package

    for wrong in ({"budget": "3"}, {"data": None}, {"searcher": []}, {"constraints": [3]}, {"device": "hpu"}):
        with pytest.raises(InputError):
            package.search("mobilenetv3", **{"budget": 1, "out": tmp_path / "x", **wrong})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="time_limit_s"):
        package.search(load_space("mobilenetv3"), 1, time_limit_s=float("nan"))
    assert not (tmp_path / "x").exists()


def test_nas_alone_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "search" in capsys.readouterr().out
