"""The command line as a user meets it, each command in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import SMALL_SPACE, TINY_SPACE, nas, one_line_error

from nas.cli import run
from nas.cli.progress import show_steps
from search_space import load_architecture, presets, references

SEARCH = ("search", "--space", "mobilenetv3", "--budget", "3")


@pytest.mark.parametrize("name", references())
def test_show_every_reference(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", name, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {"name", "arch_id", "resolution", "params", "macs"} <= set(shown)
    assert shown["arch_id"] == load_architecture(name).arch_id
    assert run(["show", name]) == 0
    assert f"params {shown['params']:,}" in capsys.readouterr().out


def test_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["spaces", "--json"]) == 0
    assert tuple(row["name"] for row in json.loads(capsys.readouterr().out)["spaces"]) == presets()
    assert run(["spaces", "mobilenetv2", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["size"] > 10**24
    assert described["ranges"]["macs"]["min"] < 300_774_272 < described["ranges"]["macs"]["max"]
    assert described["parts"][0]["num_classes"] == 1_000
    assert run(["spaces", "mobilenetv2"]) == 0
    assert f"{described['size']:,} distinct networks" in capsys.readouterr().out


def test_a_space_at_other_resolutions(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["spaces", "mobilenetv2", "--resolution", "64,96", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["parts"][0]["resolution"] == {"choice": [64, 96]}
    assert described["ranges"]["macs"]["max"] < 300_774_272
    assert run(["spaces", "--resolution", "64"]) == 2
    assert "go with one space" in one_line_error(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serch"], "No such command 'serch'"),
        (["search", "--space", "mobilenetv3"], "Missing option '--budget'"),
        (["search", "--budget", "3"], "Missing option '--space'"),
        (["search", "--space", "mobilenetv3", "--budget", "x"], "Invalid value for '--budget'"),
        (["search", "--space", "mobilenetv3", "--budget", "0"], "--budget must be 1 to"),
        (["search", "--space", "mobilenetv9", "--budget", "3"], "did you mean mobilenetv"),
        ([*SEARCH, "--data", "mnist"], "--data must be a known data set"),
        ([*SEARCH, "--data", "."], "write it as imagefolder:."),
        ([*SEARCH, "--searcher", "x"], "--searcher must be a known name"),
        ([*SEARCH, "--objective", "f1"], "--objective must be a metric"),
        ([*SEARCH, "--device", "gpu"], "the device cannot be used"),
        ([*SEARCH, "--executor", "slurm"], "--executor must be a known"),
        ([*SEARCH, "--time-limit", "soon"], "--time-limit must be a dur"),
        ([*SEARCH, "--frobnicate"], "No such option"),
        ([*SEARCH, "--out", "/proc/nas"], "cannot use the folder"),
        ([*SEARCH, "--executor", "ray", "--ray-address", "127.0.0.1:1"], "the address of a running Ray cluster"),
        ([*SEARCH, "--data", "npz:few.npz", "--prefilter", "naswot:0.5"], "need at least 4 training images"),
        (["show", "nowhere.yaml"], "cannot read the file: No such file or directory, got 'nowhere.yaml'"),
        (["show", "."], "the folder has no best.yaml"),
        (["show"], "there is no run yet under runs/"),
        (["resume", "runs/none"], "not a run folder"),
        (["resume", "space.yaml"], "not a run folder"),
        (["export", "mobilenetv2", "--to", "yalm"], "did you mean yaml?"),
        (["export", "mobilenetv2", "--out", "/proc/x"], "cannot write the file"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    few = {"x": np.zeros((3, 8, 8), np.uint8), "y": np.array([0, 1, 0])}
    np.savez("few.npz", **{f"{part}_{split}": few[part] for part in few for split in ("train", "val", "test")})
    assert run(arguments) == 2
    assert message in one_line_error(capsys)
    assert not list(tmp_path.glob("runs/*"))


def test_export_yaml_round_trips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "mobilenetv3-large", "--to", "yaml", "--out", str(tmp_path)]) == 0
    file = Path(capsys.readouterr().out.strip())
    assert load_architecture(file) == load_architecture("mobilenetv3-large")


def test_search_end_to_end(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    search = "search --space small.yaml --budget 4 --constraint macs<=1M --final-seeds 1 --json"
    done = nas(*search.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"run", "best", "counts", "wall_time_s"} <= set(found)
    assert found["counts"]["complete"] == 4
    assert "4/4" in done.stderr
    run_folder = tmp_path / found["run"]
    best = load_architecture(run_folder / "best.yaml")
    assert best.arch_id == found["best"]["arch_id"]
    assert best.num_classes == 10
    assert best.provenance["metrics"] == found["best"]["metrics"]
    assert json.loads((run_folder / "summary.json").read_text()) == found
    shown = nas("show", "--json", cwd=tmp_path)  # the newest run
    assert json.loads(shown.stdout)["arch_id"] == best.arch_id
    again = nas("resume", run_folder, "--json")  # nothing is left to do
    assert json.loads(again.stdout)["best"] == found["best"]
    assert {path.name for path in run_folder.iterdir()} >= {"run.yaml", "journal.log", "best.yaml", "summary.json"}


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        (["macs<=2"], "no network of tiny has macs<=2 (--constraint)"),
        (["macs<=19K", "params>=1K"], "was found that satisfies macs<=19000 and params>=1000 (--constraint)"),
    ],
)
def test_nothing_feasible_says_what_the_space_can_reach(constraints: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY_SPACE)
    options = [word for constraint in constraints for word in ("--constraint", constraint)]
    done = nas("search", "--space", "tiny.yaml", "--budget", "4", *options, cwd=tmp_path)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: no network of tiny ")
    assert words in last
    assert "the space reaches macs from" in last
    assert "Traceback" not in done.stderr


def test_changed_data_are_not_resumed_with(tmp_path: Path) -> None:
    import numpy as np

    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    rng = np.random.default_rng(0)

    def write() -> None:
        np.savez(tmp_path / "d.npz", x_train=rng.integers(0, 255, (60, 8, 8), np.uint8), y_train=np.arange(60) % 3)

    write()
    search = "search --space small.yaml --data npz:d.npz --budget 2 --out run --workers 1 --finalists 0"
    assert nas(*search.split(), cwd=tmp_path).returncode == 0
    write()
    done = nas("resume", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "the data must be what the run began with" in done.stderr


def test_help_needs_no_pytorch() -> None:
    code = "import sys; sys.argv = ['nas', '--help']\nfrom nas.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    import subprocess
    import sys

    loaded = subprocess.run(
        [sys.executable, "-c", code + "print(sorted({'torch', 'optuna', 'ray'} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.splitlines()[-1] == "[]"


def test_without_a_terminal_a_bar_says_its_end_once(capsys: pytest.CaptureFixture[str]) -> None:
    with show_steps("audit") as show:
        for done in (0, 0.5, 1, 2, 2, 2):
            show(done, 2)
    assert capsys.readouterr().err == "audit: 0/2  0:00 elapsed, ? left\naudit: 2/2  0:00 elapsed, 0:00 left\n"
