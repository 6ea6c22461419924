"""Searches whose best are trained again, with real trainings of a moment each."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from support import SMALL_SPACE

from evaluators import load_images
from evaluators.folder import ImageFolder, mixed
from evaluators.recipe import AUTO
from nas import api
from nas.cli import run as nas_here
from nas.state import State
from search_space import InputError, load_architecture
from search_space.errors import WorkFailed

SEEDS = 3

TINY = "resolution_px: 8\nepochs: 1\nmax_train_images: 64\nmax_val_images: 100\nfinal_size_px: 1\n"
NONE: dict[str, Any] = {"finalists": 0, "final_proxy": AUTO}
OPTIONS: dict[str, Any] = {"proxy": "tiny.yaml", "final_proxy": "longer.yaml", "finalists": 2, "seed": 3}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL_SPACE)
    Path("tiny.yaml").write_text(TINY)
    Path("longer.yaml").write_text(TINY.replace("epochs: 1", "epochs: 3"))
    return tmp_path


def test_from_the_request_to_the_files(here: Path) -> None:
    steps: list[tuple[int, int]] = []
    result = api.search("small.yaml", 6, out="run", workers=1, on_train=lambda *step: steps.append(step), **OPTIONS)
    assert steps[-1] == (6, 6)
    assert result.best is not None
    assert result.final_proxy == "longer.yaml"
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary == json.loads(json.dumps(result.to_dict()))
    first, second = summary["finalists"]
    assert first["arch_id"] == result.best.arch_id
    assert first["final"]["score"]["mean"] >= second["final"]["score"]["mean"]
    assert len(set(first["final"]["loss"]["values"])) == SEEDS
    metrics = summary["best"]["metrics"]
    assert {"accuracy", "final_accuracy", "final_accuracy_std", "final_loss", "test_accuracy"} <= metrics.keys()
    assert 0 <= metrics["test_accuracy"] <= 1
    origin = load_architecture("run/best.yaml").provenance
    assert origin["metrics"] == metrics
    assert origin["final"] == {"fidelity": "longer.yaml", "epochs": 3, "resolution_px": 8, "seeds": SEEDS}
    record = Path("run/finalists.jsonl").read_text()
    assert record.count("\n") == 6

    # Neither the recipe's file nor another training is needed to take the run up again.
    Path("longer.yaml").unlink()
    again = api.resume("run", on_train=lambda *step: steps.append(step))
    assert again.best == result.best
    assert again.training_time_s == pytest.approx(result.training_time_s, abs=0.01)
    assert Path("run/finalists.jsonl").read_text() == record
    assert len(steps) == 7

    none = api.search("small.yaml", 2, out="two", workers=1, proxy="tiny.yaml", finalists=0)
    assert (none.finalists, none.final_proxy) == ((), "")
    assert not Path("two/finalists.jsonl").exists()


def test_a_front_has_final_scores(here: Path) -> None:
    result = api.search("small.yaml", 8, out="run", workers=1, objective="accuracy,macs", **OPTIONS)
    assert 1 <= len(result.finalists) <= 2
    assert result.best is not None
    assert result.best.arch_id == result.front[0].arch_id
    assert "final_accuracy" in result.best.metrics


@pytest.mark.parametrize("score", ["naswot", "params"])
def test_networks_found_without_training_can_be_trained_in_the_end(score: str, here: Path) -> None:
    result = api.search("small.yaml", 4, out="run", workers=1, evaluator=f"zero-cost:{score}", **OPTIONS)
    assert result.best is not None
    assert {score, "final_accuracy", "test_accuracy"} <= result.best.metrics.keys()
    assert result.best.architecture.num_classes == 10
    assert api.resume("run").best == result.best


def test_results_outlive_an_interruption_before_all_is_read_again(here: Path) -> None:
    """The network that won must not give way to the best of the first few trials."""
    api.search("small.yaml", 6, out="run", workers=1, **OPTIONS)
    written = {path.name: path.read_text() for path in Path("run").iterdir() if path.suffix in (".yaml", ".json")}

    def stop(state: State) -> None:
        if state.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(api.Interrupted):
        api.resume("run", on_change=stop)
    assert {name: Path("run", name).read_text() for name in written} == written


# The images of finalists, which may be more than those of the search.


@pytest.fixture
def photos(here: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The request of a search in a folder of images whose finalists see more of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        Path("photos", name).mkdir(parents=True)
        for number in range(100):
            pixels = rng.integers(0, 100, (9, 9, 3), np.uint8) + np.uint8(100 * label)
            Image.fromarray(pixels).save(Path("photos", name, f"{number}.png"))
    Path("longer.yaml").write_text(TINY.replace("max_train_images: 64", "max_train_images: 100"))
    return {**OPTIONS, "data": "imagefolder:photos", "final_seeds": 1, "workers": 1}


def recorded(run: str) -> dict[str, Any]:
    plain: dict[str, Any] = yaml.safe_load(Path(run, "run.yaml").read_text())
    return plain


def test_all_images_are_read_once_and_before_there_is_a_run(photos: dict[str, Any]) -> None:
    steps: list[tuple[int, int]] = []

    def on_read(done: int, total: int) -> None:
        assert not Path("run").exists()
        steps.append((done, total))

    with pytest.warns(UserWarning, match="accuracies on 32 validation images are uncertain by up to ±0.17"):
        result = api.search("small.yaml", 3, out="run", on_read=on_read, **photos)
    read = 100 + 32 + 40
    assert steps[-1] == (read, read)
    assert steps == sorted(set(steps))
    searched, final = recorded("run")["evaluator"]["data"], recorded("run")["final"]["data"]
    assert (searched["train_images"], final["train_images"]) == (64, 100)
    assert searched["fingerprint"] != final["fingerprint"]
    assert api.resume("run").best == result.best

    # The search sees the same images without finalists, and those it needs only.
    shutil.rmtree("cache")
    steps.clear()
    api.search(
        "small.yaml",
        3,
        out="alone",
        on_read=lambda *step: steps.append(step),
        **{**photos, **NONE, "final_seeds": SEEDS},
    )
    assert steps[-1] == (read - 36, read - 36)
    assert recorded("alone")["evaluator"] == recorded("run")["evaluator"]
    assert scores("alone") == scores("run") != []


def scores(run: str) -> list[float]:
    rows = [json.loads(line) for line in Path(run, "journal.log").read_text().splitlines()]
    return [row["user_attrs"]["score"] for row in rows if "score" in row.get("user_attrs", {})]


def test_too_little_room_for_the_images_of_finalists_is_known_before_there_is_a_run(
    photos: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 3 * 8 * 8 * 150
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": room})())
    with pytest.raises(WorkFailed, match="images need"):
        api.search("small.yaml", 3, out="run", **photos)
    assert not Path("run").exists()
    api.search("small.yaml", 3, out="run", **{**photos, **NONE, "final_seeds": SEEDS})


@pytest.mark.parametrize("evaluator", ["proxy", "zero-cost:params"])
def test_a_run_keeps_the_images_of_its_finalists(evaluator: str, photos: dict[str, Any]) -> None:
    result = api.search("small.yaml", 3, out="run", **photos, evaluator=evaluator)
    listed = load_images("imagefolder:photos")
    assert isinstance(listed, ImageFolder)
    train = listed.splits["train"]
    late = train.files[mixed(train.labels)[90]]  # the search does not look at it
    Image.new("RGB", (9, 9)).save(Path("photos", late))
    with pytest.raises(InputError, match=r"the data must be what the run began with, got .*run\.yaml"):
        api.resume("run")

    # An older version did not record them.
    plain = recorded("run")
    del plain["final"]["data"]
    Path("run/run.yaml").write_text(yaml.safe_dump(plain))
    assert api.resume("run").best == result.best


def test_what_is_printed(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fidelities = ["--proxy", "tiny.yaml", "--final-proxy", "longer.yaml"]
    search = ["search", "--space", "small.yaml", *fidelities, "--workers", "1", "--budget", "4"]
    assert nas_here([*search, "--finalists", "2"]) == 0
    printed = capsys.readouterr()
    assert "training finalists: 6/6" in printed.err
    for words in ("final loss", "final accuracy", "test accuracy", "longer.yaml, 3 trainings", " ± "):
        assert words in printed.out
    (run,) = Path("runs").iterdir()
    with monkeypatch.context() as terminal:
        terminal.setenv("FORCE_COLOR", "1")
        terminal.setenv("COLUMNS", "80")
        assert nas_here(["resume", str(run)]) == 0
    narrow = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert re.search(r"finalist +accuracy +loss +score *\n", narrow)
    number, spread = r" +[\d.e+-]+", r" +[\d.e+-]+ ± [\d.e+-]+"  # in one line each
    for finalist in json.loads((run / "summary.json").read_text())["finalists"]:
        assert re.search(rf" {finalist['arch_id']} +proxy(?:{number}){{3}} *\n +final(?:{spread}){{3}} *\n", narrow)
    assert nas_here([*search, "--objective", "macs", "--constraint", "accuracy>=0.01", "--final-seeds", "1"]) == 0
    printed = capsys.readouterr()
    assert "1 training)" in printed.out
    assert " ± " not in printed.out


def test_killed_while_finalists_are_trained(tmp_path: Path, forked: Callable[..., Any]) -> None:
    whole, run, rng = tmp_path / "whole", tmp_path / "run", random.Random(0)
    unbroken = forked(whole, "random", "accuracy", 4, 4)
    unbroken.join(200)
    assert unbroken.exitcode == 0

    def lines() -> list[str]:
        record = run / "finalists.jsonl"
        return [line for line in record.read_text().splitlines(True) if line.endswith("\n")] if record.exists() else []

    kills = 0
    while len(lines()) < 4 * SEEDS:
        before = lines()
        process = forked(run, "random", "accuracy", 4, 4)
        wanted = len(before) + rng.randint(1, 3)
        while process.is_alive() and len(lines()) < wanted:
            process.join(0.002)
        process.join(rng.uniform(0, 0.01))
        process.kill()
        process.join(60)
        kills += process.exitcode == -signal.SIGKILL
        assert lines()[: len(before)] == before
    assert kills >= 3
    last = forked(run, "random", "accuracy", 4, 4)
    last.join(200)
    assert last.exitcode == 0
    rows = [json.loads(line) for line in lines()]
    assert len({(row["arch_id"], row["seed"]) for row in rows}) == len(rows) == 4 * SEEDS
    expected, found = (json.loads((folder / "summary.json").read_text()) for folder in (whole, run))
    assert len(found["finalists"]) == 4
    for name in ("finalists", "best", "counts"):
        assert found[name] == expected[name]
    assert (run / "best.yaml").read_text() == (whole / "best.yaml").read_text().replace(str(whole), str(run))
