from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from support import space

from nas import api
from nas.constraints import COUNTED
from nas.record import STUDY_NAME, TrialLog, TrialRecord
from nas.run_folder import RunFolder
from nas.settings import Settings, parse_duration
from search_space import InputError, load_space, presets
from search_space.documents import write_whole
from searchers import distributions


def record(number: int) -> TrialRecord:
    searched = space()
    genotype = tuple(number % len(gene.options) for gene in searched.genes)
    cost = dict.fromkeys(COUNTED, float(number))
    return TrialRecord(number, searched.params(genotype), f"id{number}", cost, {"accuracy": number / 10}, 1.0)


def open_log(path: Path) -> TrialLog:
    return TrialLog(path, ["maximize"], distributions(space()))


def append(log: TrialLog, one: TrialRecord) -> None:
    log.append(one, None if one.failed else [one.metrics["accuracy"]], {"macs<=5": one.cost["macs"] / 5 - 1})


def test_records_are_read_back(tmp_path: Path) -> None:
    log = open_log(tmp_path / "journal.log")
    written = [
        record(0),
        record(1),
        TrialRecord(2, record(2).params, "x", record(2).cost, {}, 2.0, 4, 1, {"duplicate": 3}, "why"),
        dataclasses.replace(record(3), rejected={"filtered": 2}, filtered=("a", "b")),
    ]
    for one in written:
        append(log, one)
    assert open_log(tmp_path / "journal.log").read(COUNTED) == written


@pytest.mark.parametrize("cut", [1, 2, 50, 300])
def test_a_half_written_last_line_is_dropped(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    log = open_log(path)
    for number in range(3):
        append(log, record(number))
    path.write_bytes(path.read_bytes()[:-cut])
    again = open_log(path)
    assert [one.ask for one in again.read(COUNTED)] == [0, 1]
    append(again, record(2))
    assert [one.ask for one in open_log(path).read(COUNTED)] == [0, 1, 2]


def test_optuna_opens_the_journal(tmp_path: Path) -> None:
    append(open_log(tmp_path / "journal.log"), record(7))
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log")))
    study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
    (trial,) = study.trials
    assert trial.value == 0.7
    assert trial.params == record(7).params
    assert trial.user_attrs["arch_id"] == "id7"
    assert trial.user_attrs["macs"] == 7
    assert trial.constraints == {"macs<=5": pytest.approx(0.4)}


def test_garbage_in_the_journal_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_text("garbage\nmore\n")
    with pytest.raises(InputError, match=r"the journal cannot be read.*journal\.log"):
        open_log(tmp_path / "journal.log")


@pytest.mark.parametrize("name", presets())
def test_run_yaml_holds_the_whole_request(name: str, tmp_path: Path) -> None:
    settings = Settings(budget=7, seed=3, searcher="tpe", constraints=("macs<=200M", " params <= 4.5m "), workers=2)
    folder = RunFolder.create(tmp_path / "run", settings, load_space(name), {"evaluator": "fake"})
    folder.unlock()
    read, loaded, plain = RunFolder(tmp_path / "run").read()
    assert read == settings
    assert read.constraints == ("macs<=200000000", "params<=4500000")
    assert loaded.genes == load_space(name).genes
    assert plain["evaluator"] == {"evaluator": "fake"}


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    settings = Settings(budget=1)
    RunFolder.create(tmp_path / "run", settings, space(), {}).unlock()
    with pytest.raises(InputError, match=r"there is a run already.*nas resume"):
        RunFolder.create(tmp_path / "run", settings, space(), {})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="must be a new or empty folder"):
        RunFolder.create(tmp_path / "other", settings, space(), {})
    with pytest.raises(InputError, match="there is a run already"):  # before images are read
        api.search("mobilenetv3", 1, out=tmp_path / "run", data="npz:missing.npz")


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", Settings(budget=1), space(), {})
    code = (
        f"from pathlib import Path; from nas.run_folder import RunFolder; RunFolder(Path({str(folder.path)!r})).lock()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another process is working on this run" in done.stderr
    folder.unlock()
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "a", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 0}, "--budget must be 1 to"),
        ({"budget": "5"}, "--budget must be a whole number"),
        ({"seed": -1}, "--seed must be 0 to"),
        ({"workers": -1}, "--workers must be 0 to"),
        ({"searcher": "evolutoin"}, "did you mean evolution"),
        ({"constraints": ("macs<200M",)}, "METRIC<=NUMBER"),
        ({"constraints": ("macs<=",)}, "METRIC<=NUMBER"),
        ({"constraints": ("macs<=1.2.3",)}, "positive, finite number"),
        ({"constraints": ("macs<=0",)}, "positive, finite"),
        ({"constraints": ("macs<=2M", "params<=9", "macs>=3M")}, "no network has macs<=2000000 and macs>=3000000"),
        ({"constraints": ("macs<=1e999",)}, "positive, finite"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**{"budget": 5, **change})


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5d", 129_600)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "0s", "1 week", "nan s"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(InputError, match="must be a duration"):
        parse_duration(text)
