"""The table of NAS-Bench-Macro: what is looked up, and which files are refused."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from evaluators import EvaluationFailed, TabularEvaluator
from search_space import InputError, count_cost, load_architecture, load_space

FIRST, SAME, OTHER = "11101222", "11110222", "22222222"
"""Two spellings of one network, and another network."""


def record(*accuracies: float) -> dict[str, Any]:
    return {
        "test_acc": list(accuracies),
        "mean_acc": fmean(accuracies),
        "std": 0.25,
        "params": 890_666,
        "flops": 47_327_744,
    }


def records() -> dict[str, Any]:
    return {FIRST: record(90.0, 91.0, 95.0), SAME: record(90.0, 91.0, 95.0), OTHER: record(70.0, 70.5, 71.0)}


def write(folder: Path, content: Any) -> Path:
    path = folder / "table.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def arch_id(key: str) -> str:
    return load_space("nasbench-macro").decode(tuple(map(int, key))).arch_id


def test_it_gives_the_mean_of_the_seeds_as_a_share(tmp_path: Path) -> None:
    table = TabularEvaluator(write(tmp_path, records()))
    assert not table.noisy
    assert set(table.entries) == {arch_id(FIRST), arch_id(OTHER)}
    for network in table.architectures():
        (report,) = table.evaluate(network, seed=1)
        accuracy = {arch_id(SAME): 0.92, arch_id(OTHER): 0.705}[network.arch_id]
        assert report.metrics == {"accuracy": pytest.approx(accuracy)}
        assert (report.step, report.total_steps) == (1, 1)
        assert table.true_accuracy(network.arch_id) == report.metrics["accuracy"]
    entry = table.entries[arch_id(SAME)]
    assert (entry.accuracies, entry.params, entry.macs) == ((0.90, 0.91, 0.95), 890_666, 47_327_744)


def test_a_noisy_one_gives_one_seeds_accuracy(tmp_path: Path) -> None:
    table = TabularEvaluator(write(tmp_path, records()), noisy=True)
    assert table.noisy
    network = table.architectures()[0]
    seen = [next(table.evaluate(network, seed=seed)).metrics["accuracy"] for seed in range(300)]
    # Each a hundred times on average; fewer than 60 once in ten million generators.
    assert sorted(set(seen)) == [0.90, 0.91, 0.95]
    assert min(map(seen.count, set(seen))) >= 60
    assert seen == [next(table.evaluate(network, seed=seed)).metrics["accuracy"] for seed in range(300)]
    other = [next(table.evaluate(table.architectures()[1], seed=seed)).metrics["accuracy"] for seed in range(300)]
    ranks = [[sorted(set(row)).index(accuracy) for accuracy in row] for row in (seen, other)]
    assert ranks[0] != ranks[1]  # each network's noise is its own
    assert table.true_accuracy(network.arch_id) == pytest.approx(0.92)


def test_it_describes_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, records())
    expected = {
        "evaluator": "table",
        "file": "table.json",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "networks": 2,
        "noisy": False,
    }
    assert TabularEvaluator(path).describe() == expected
    assert TabularEvaluator(path, noisy=True).describe() == {**expected, "noisy": True}


def test_networks_that_are_not_there_fail(tmp_path: Path) -> None:
    path = write(tmp_path, records())
    table = TabularEvaluator(path)
    known = table.architectures()[0]
    for network in (load_architecture("mobilenetv2"), known.replace(num_classes=11), known.replace(resolution=64)):
        with pytest.raises(EvaluationFailed) as caught:
            list(table.evaluate(network, seed=0))
        name = f"{network.name} ({network.arch_id})"
        assert str(caught.value) == f"{name} is not in {path}, which has networks of space nasbench-macro, unchanged"
    with pytest.raises(EvaluationFailed, match=r"^abc is not in"):
        table.true_accuracy("abc")


FIRST_RECORD = json.dumps(record(90.0, 91.0, 95.0))
HEAD = '{"' + FIRST + '": '
BAD = [
    ("", "not valid JSON: Expecting value (FILE:1:1); restore the file from where it came"),
    ("accuracy\n90", "not valid JSON: Expecting value (FILE:1:1)"),
    (json.dumps(records())[:-40], "not valid JSON: "),
    (json.dumps(records(), indent=1).replace(",", "", 1), "not valid JSON: Expecting ',' delimiter (FILE:5:"),
    ("{}", "a table must be a mapping of networks to records, got {} (FILE); restore"),
    ("[1]", "a table must be a mapping of networks to records, got [1] (FILE); restore"),
    ("3", "a table must be a mapping of networks to records, got 3 (FILE); restore"),
    ("[" * 100_000, "the file is nested too deeply (FILE)"),
    (HEAD + "9" * 5_000 + "}", "a number is too long (FILE)"),
    (HEAD + FIRST_RECORD + ', "' + FIRST + '": ' + FIRST_RECORD + "}", f"only once, got '{FIRST}' (FILE); remove one"),
    (HEAD + '{"std": 1, "std": 2}}', "a key may stand only once, got 'std' (FILE); remove one"),
    (HEAD + "NaN}", "a table has finite numbers only, got 'NaN' (FILE); restore"),
    (HEAD + FIRST_RECORD.replace("91.0", "Infinity") + "}", "a table has finite numbers only, got 'Infinity' (FILE)"),
    (HEAD + FIRST_RECORD.replace("91.0", "-Infinity") + "}", "finite numbers only, got '-Infinity' (FILE)"),
    (
        HEAD + FIRST_RECORD.replace("91.0", "1e999") + "}",
        "test_acc must be 0 to 100, got inf (FILE, 11101222, test_acc",
    ),
    (HEAD + "null}", "a record must be a mapping, got None (FILE, 11101222); restore"),
    ({"1101122": {}}, "a network must be named by 8 digits, each 0, 1 or 2, got '1101122' (FILE)"),
    ({"110112222": {}}, "a network must be named by 8 digits, each 0, 1 or 2, got '110112222' (FILE)"),
    ({"11011223": {}}, "a network must be named by 8 digits, each 0, 1 or 2, got '11011223' (FILE)"),
    ({"1101122²": {}}, "a network must be named by 8 digits, each 0, 1 or 2, got '1101122²' (FILE)"),
    ({"11011222\n": {}}, r"a network must be named by 8 digits, each 0, 1 or 2, got '11011222\n' (FILE)"),
    (
        {**records(), SAME: record(90.0, 91.0, 96.0)},
        f"{FIRST} and {SAME} are the same network and must have equal records (FILE); restore",
    ),
]
# A field, what it is made -> the message.
BAD_FIELDS = [
    ("test_acc", None, "test_acc must be a list of accuracies in percent, one for each seed, got None (FILE, 11101222"),
    ("test_acc", [], "test_acc must be a list of accuracies in percent, one for each seed, got [] (FILE, 11101222, te"),
    ("test_acc", 90.0, "test_acc must be a list of accuracies in percent, one for each seed, got 90.0 (FILE"),
    (
        "test_acc",
        [90.0, "91"],
        "test_acc must be a number, got '91' (FILE, 11101222, test_acc); use a number from 0 to",
    ),
    ("test_acc", [90.0, True], "test_acc must be a number, got True (FILE, 11101222, test_acc)"),
    ("test_acc", [90.0, 100.1], "test_acc must be 0 to 100, got 100.1 (FILE, 11101222, test_acc)"),
    ("test_acc", [-1.0, 92], "test_acc must be 0 to 100, got -1.0 (FILE, 11101222, test_acc)"),
    ("test_acc", [0.9, 0.91], "mean_acc must be the mean of test_acc, got 92.0 (FILE, 11101222, mean_acc); restore"),
    ("mean_acc", "92", "mean_acc must be a number, got '92' (FILE, 11101222, mean_acc)"),
    ("std", [], "std must be a number, got [] (FILE, 11101222, std)"),
    ("params", 0, "params must be 1 to 1000000000000000, got 0 (FILE, 11101222, params)"),
    ("params", 8.5, "params must be a whole number, got 8.5 (FILE, 11101222, params)"),
    ("flops", -3, "flops must be 1 to 1000000000000000, got -3 (FILE, 11101222, flops)"),
    ("macs", 3, "a record has no field of this name, got 'macs' (FILE, 11101222); "),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_bad_tables_are_refused_in_one_line(content: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        TabularEvaluator(path)
    assert message.replace("FILE", str(path)) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("field", "value", "message"), BAD_FIELDS)
def test_bad_records_are_refused_in_one_line(field: str, value: Any, message: str, tmp_path: Path) -> None:
    bad = records()
    bad[FIRST][field] = value
    test_bad_tables_are_refused_in_one_line(bad, message, tmp_path)


@pytest.mark.parametrize("field", sorted(record(1.0)))
def test_fields_that_are_missing_are_named(field: str, tmp_path: Path) -> None:
    bad = records()
    del bad[FIRST][field]
    test_bad_tables_are_refused_in_one_line(bad, f"a record needs {field} (FILE, {FIRST}); restore", tmp_path)


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, "cannot read the file: Is a directory"),
        (tmp_path / "none.json", "cannot read the file: No such file"),
        (Path("a\0b"), "not a file name"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            TabularEvaluator(path)
        assert len(str(caught.value).splitlines()) == 1
    (tmp_path / "zip.json").write_bytes(b"PK\xff\xfe")
    with pytest.raises(InputError, match="a file must be UTF-8 text"):
        TabularEvaluator(tmp_path / "zip.json")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(60_000_000)
    with pytest.raises(InputError, match="a file may have at most 50,000,000 bytes"):
        TabularEvaluator(tmp_path / "huge.json")


def test_the_published_table(nasbench_macro: Path) -> None:
    table = TabularEvaluator(nasbench_macro)
    assert table.describe()["networks"] == len(table.entries) == 3969
    networks = table.architectures()
    assert [network.arch_id for network in networks] == list(table.entries)
    for network in networks[::100]:
        cost, entry = count_cost(network), table.entries[network.arch_id]
        assert (cost.params, cost.macs) == (entry.params, entry.macs)
    published = json.loads(nasbench_macro.read_text())
    for key in list(published)[::50]:
        assert table.true_accuracy(arch_id(key)) == pytest.approx(published[key]["mean_acc"] / 100)
    best = max(table.entries, key=table.true_accuracy)
    assert table.true_accuracy(best) == pytest.approx(0.93127, abs=1e-5)
    copy = pickle.loads(pickle.dumps(table))
    assert copy.entries == table.entries
