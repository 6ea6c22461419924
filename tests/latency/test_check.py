"""A check of a table says what is true: of a machine that is known, and of the one at hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from fakes import CONDITIONS, FakeRuntime, one_line, true_ms
from support import SMALL_SPACE, TINY_SPACE, space

from latency import RUNTIMES, LatencyTable, Predictor, build_table, check_table, conditions_here
from latency.build import request
from latency.check import Agreement
from search_space import InputError
from search_space.parts import parts

KEYS = {"mape", "bias", "within_5", "within_10", "kendall_tau", "remeasure_mape", "networks", "machine_slowdown"}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeRuntime]:
    made = type("Fake", (FakeRuntime,), {})
    made.scale, made.overhead_ms = 0.9, 0.1
    monkeypatch.setitem(RUNTIMES, "fake", made)
    monkeypatch.setattr("latency.runtimes.device_name", lambda device: CONDITIONS.device_name)
    return made


@pytest.fixture
def table(fake: type[FakeRuntime], tmp_path: Path) -> LatencyTable:
    return build_table(request(space(), CONDITIONS), tmp_path / "table.json")


def test_of_an_additive_machine_the_table_is_right(table: LatencyTable) -> None:
    progress: list[tuple[int, int]] = []
    result = check_table(
        Predictor(table), space(), networks=20, on_progress=lambda done, total: progress.append((done, total))
    )
    assert result.machine_slowdown == pytest.approx(1, abs=0.01)
    for agreement in (result.table, result.table_as_is, result.remeasured):
        assert agreement.mape == pytest.approx(0, abs=0.3)
        assert agreement.within_5 == agreement.within_10 == 1
        assert agreement.kendall_tau > 0.95
    assert result.alone.mape == pytest.approx(0, abs=0.3)  # here, parts take the same alone
    assert result.macs.mape > 3  # their times have nothing to do with their cost
    assert progress[0][0] == 0
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert progress[-1][0] == progress[-1][1]


def test_the_networks_of_a_check_had_no_part_in_the_table(table: LatencyTable) -> None:
    searched = space()
    result = check_table(Predictor(table), searched, networks=20)
    ids = [network.architecture.arch_id for network in result.networks]
    assert len(set(ids)) == 20
    assert not set(ids) & {network.architecture.arch_id for network in table.calibration.networks}
    for network in result.networks:
        searched.encode(network.architecture)
        true = 0.9 * sum(map(true_ms, parts(network.architecture))) + 0.1
        assert network.measured_ms == network.measured_again_ms == pytest.approx(true)
        assert network.predicted_ms == pytest.approx(true, rel=0.01)
    other = check_table(Predictor(table), searched, networks=20, seed=1)
    assert {network.architecture.arch_id for network in other.networks} != set(ids)


def test_a_machine_that_got_slower_is_told_from_a_table_that_is_wrong(
    fake: type[FakeRuntime], table: LatencyTable
) -> None:
    fake.speed = staticmethod(lambda: 1.1)
    result = check_table(Predictor(table), space(), networks=20)
    assert result.machine_slowdown == pytest.approx(1.1, abs=0.01)
    assert result.table.mape == pytest.approx(0, abs=0.5)
    assert result.table_as_is.mape == pytest.approx(100 * (1 - 1 / 1.1), abs=0.5)
    assert result.table_as_is.bias == pytest.approx(-result.table_as_is.mape)
    network = result.networks[0]
    assert network.predicted_now_ms == pytest.approx(network.measured_ms, rel=0.01)
    assert network.predicted_ms * 1.1 == pytest.approx(network.predicted_now_ms, rel=0.01)


def test_a_wrong_table_is_found_out(table: LatencyTable) -> None:
    scaled = dataclasses.replace(table.calibration, scale=table.calibration.scale * 1.5)
    result = check_table(Predictor(dataclasses.replace(table, calibration=scaled)), space(), networks=20)
    assert result.table.mape > 20
    assert result.table.bias > 20
    assert result.table.within_10 == 0
    assert result.remeasured.mape == pytest.approx(0, abs=1e-6)


def test_measuring_again_is_a_second_session(fake: type[FakeRuntime], table: LatencyTable) -> None:
    """The machine gets 20 % slower before the networks are measured again."""
    runs = 0

    def speed() -> float:
        nonlocal runs
        runs += 1
        return 1.0 if runs <= before else 1.2

    before = 10**9
    fake.speed = staticmethod(speed)
    progress: list[tuple[int, int]] = []

    def on_progress(done: int, total: int) -> None:
        progress.append((runs, 3 * done / total))

    check_table(Predictor(table), space(), networks=8, on_progress=on_progress)
    # The last third of the progress is measuring again.
    before, runs = {session: ran for ran, session in progress}[2], 0
    result = check_table(Predictor(table), space(), networks=8)
    assert result.remeasured.mape == pytest.approx(20, abs=0.1)
    assert all(one.measured_again_ms == pytest.approx(1.2 * one.measured_ms) for one in result.networks)
    assert result.table.mape == pytest.approx(0, abs=0.3)


def test_the_plain_data_can_be_written(table: LatencyTable) -> None:
    plain = check_table(Predictor(table), space(), networks=5).to_dict()
    json.dumps(plain, allow_nan=False)
    assert set(plain) >= KEYS
    assert plain["networks"] == len(plain["measured"]) == 5
    for name in ("as_is", "fitted", "remeasured", "macs", "blocks_alone"):
        assert set(plain[name]) == {"mape", "bias", "within_5", "within_10", "kendall_tau"}


def test_agreement_by_hand() -> None:
    measured = np.array([10.0, 20.0, 40.0, 80.0])
    agreement = Agreement.of(measured * [1.04, 0.92, 1.2, 1.0], measured)
    assert agreement.mape == pytest.approx((4 + 8 + 20 + 0) / 4)
    assert agreement.bias == pytest.approx((4 - 8 + 20 - 0) / 4)
    assert (agreement.within_5, agreement.within_10) == (0.5, 0.75)
    assert agreement.kendall_tau == pytest.approx(1)
    assert Agreement.of(np.array([4.0, 3.0, 2.0, 1.0]), measured).kendall_tau == pytest.approx(-1)
    assert Agreement.of(np.full(4, 5.0), measured).kendall_tau == 0


@pytest.mark.parametrize("networks", [0, 1, -1])
def test_too_few_networks_are_refused(networks: int, table: LatencyTable) -> None:
    with pytest.raises(InputError, match="at least 2") as caught:
        check_table(Predictor(table), space(), networks=networks)
    assert one_line(caught.value)


def test_a_space_without_fresh_networks_is_refused(fake: type[FakeRuntime], tmp_path: Path) -> None:
    tiny = space(TINY_SPACE)
    table = build_table(request(tiny, CONDITIONS), tmp_path / "tiny.json")
    with pytest.raises(InputError, match="the space has only 3 networks") as caught:
        check_table(Predictor(table), tiny, networks=10)
    assert one_line(caught.value)
    assert len(check_table(Predictor(table), tiny, networks=2).networks) == 2


def test_networks_are_checked_at_what_the_table_has(fake: type[FakeRuntime], tmp_path: Path) -> None:
    wanted = request(space(), CONDITIONS, resolutions=[32], num_classes=[7, 8])
    result = check_table(Predictor(build_table(wanted, tmp_path / "table.json")), space(), networks=20)
    assert {network.architecture.resolution for network in result.networks} == {32}
    assert {network.architecture.num_classes for network in result.networks} == {7, 8}


def test_other_conditions_are_warned_of(
    fake: type[FakeRuntime], table: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency.runtimes.device_name", lambda device: "Other CPU")
    with pytest.warns(UserWarning, match=r"device_name Fake CPU @ 1 Hz against Other CPU") as caught:
        check_table(Predictor(table), space(), networks=5)
    assert len(caught) == 1


@pytest.mark.parametrize("changes", [{"runtime": "tflite"}, {"device": "tpu"}])
def test_conditions_that_cannot_be_had_are_refused(
    changes: dict[str, str], table: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setitem(RUNTIMES, "fake", FakeRuntime)
    elsewhere = dataclasses.replace(table, conditions=dataclasses.replace(CONDITIONS, **changes))
    with pytest.raises(InputError) as caught:
        check_table(Predictor(elsewhere), space(), networks=5)
    assert one_line(caught.value, *changes.values())


def test_a_real_check(tmp_path: Path) -> None:
    searched = space(SMALL_SPACE)
    wanted = request(searched, conditions_here("torch"), resolutions=[16], num_classes=[10])
    table = build_table(wanted, tmp_path / "table.json")
    plain = check_table(Predictor(table), searched, networks=5).to_dict()
    assert set(plain) >= KEYS
    for name in ("mape", "remeasure_mape", "machine_slowdown"):
        assert np.isfinite(plain[name])
        assert plain[name] >= 0
    assert all(network["measured_ms"] > 0 for network in plain["measured"])
