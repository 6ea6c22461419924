"""What `nas export` refuses, and how it says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import one_line_error
from tiny import tiny
from torch import Tensor

import nas
from nas.cli import run
from nas.export.api import export_network
from search_space import InputError, build_model
from search_space.architecture_file import save_architecture


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--to", "onxn"], "did you mean onnx?"),
        (["--to", ""], "--to must be a known format"),
        (["--to", "yaml,,torch"], "--to must be a known format"),
        (["--out", "/proc/x"], "cannot write the file"),
        (["--out", "tiny.yaml"], "cannot write the file"),
        (["--weights", "none.safetensors"], "cannot read the weights: No such file"),
        (["--weights", "tiny.yaml"], "not a safetensors file"),
        (["--weights", "."], "cannot read the weights"),
        (["--to", "torchvision"], "torchvision's"),
        (["--interpolate"], "--interpolate needs a latency table"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(
    options: list[str], said: str, tiny_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_file.parent)
    save_architecture(tiny(drop_path_rate=0.1, input_channels=4), tiny_file)
    before = set(tiny_file.parent.rglob("*"))
    assert run(["export", "tiny.yaml", *options]) == 2
    assert said in one_line_error(capsys)
    assert set(tiny_file.parent.rglob("*")) == before


def spoil(state: dict[str, Tensor], how: str) -> None:
    names = list(state)
    if how == "lacks":
        del state["blocks.1.branch.0.0.weight"], state[names[-1]]
    elif how == "shape":
        state["blocks.1.branch.0.0.weight"] = torch.zeros(4, 16, 1, 1)
        state[names[-1]] = torch.zeros(3)
    elif how == "surplus":
        state["more"] = torch.zeros(1)
    elif how == "nan":
        state["blocks.1.branch.0.0.weight"][0] = float("nan")
    elif how == "integers":
        state["blocks.1.branch.0.0.weight"] = state["blocks.1.branch.0.0.weight"].long()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("lacks", "lack blocks.1.branch.0.0.weight"),
        ("shape", "blocks.1.branch.0.0.weight must have the shape [32, 16, 1, 1]"),
        ("surplus", "a tensor that the network lacks, got 'more'"),
        ("nan", "blocks.1.branch.0.0.weight must be finite"),
        ("integers", "blocks.1.branch.0.0.weight must be torch.float32"),
    ],
)
def test_the_first_weights_that_do_not_fit_are_named(
    how: str, said: str, tiny_file: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_file(tiny_weights)
    ordered = {name: state[name] for name in build_model(tiny()).state_dict()}
    spoil(ordered, how)
    save_file(ordered, tmp_path / "bad.safetensors")
    request = ["export", str(tiny_file), "--weights", str(tmp_path / "bad.safetensors"), "--out", str(tmp_path / "out")]
    assert run(request) == 2
    assert said in one_line_error(capsys)
    assert not (tmp_path / "out").exists()
    out = export_network(tiny(), ["yaml"], tmp_path / "out", weights=tiny_weights).card.parent
    save_file(ordered, out / "tiny.safetensors")
    with pytest.raises(InputError) as caught:
        nas.load_model(out)
    assert said in str(caught.value)


def test_a_missing_extra_says_how_to_get_it(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert run(["export", str(tiny_file), "--to", "yaml,onnx", "--out", str(tmp_path / "out")]) == 2
    assert "onnx is not installed (--to onnx); pip install 'nas[onnx]'" in one_line_error(capsys)
    assert not (tmp_path / "out").exists()


def test_a_folder_holds_one_network(tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    export_network(tiny(), ["yaml"], out)
    export_network(tiny(), ["json"], out)
    assert run(["export", "mobilenetv2", "--out", str(out)]) == 2
    assert "the folder holds the export of another network" in one_line_error(capsys)
    with pytest.raises(InputError, match="the export of another network"):
        export_network(tiny(num_classes=8), ["yaml"], out)


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new" / "out"
    monkeypatch.setattr("nas.export.api.model_card", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_network(tiny(), ["yaml", "json"], out)
    assert list(tmp_path.iterdir()) == []
