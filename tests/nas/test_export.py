"""`nas export` and `nas.load_model` as a user meets them: what is written, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import block, tiny

import nas
from nas.cli import run
from nas.export import EXPORTERS
from nas.export.api import export_network
from nas.export.torch import network_source
from search_space import InputError, Stage, load_architecture
from search_space.architecture_file import save_architecture

ROOT = Path(__file__).parents[2]


# What is written.


def test_several_formats_at_once(
    tiny_file: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    request = [
        "export",
        str(tiny_file),
        "--to",
        "json,torch,timm,json",
        "--out",
        str(out),
        "--weights",
        str(tiny_weights),
    ]
    assert run(request) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(out / name) for name in ("tiny.json", "tiny.py", "tiny_timm.py")]
    names = {"tiny.json", "tiny.py", "tiny_timm.py", "tiny.timm.safetensors", "tiny.yaml", "tiny.safetensors"}
    assert {path.name for path in out.iterdir()} == {*names, "model_card.md"}
    given, written = load_file(tiny_weights), load_file(out / "tiny.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in given.items())
    assert load_architecture(out / "tiny.json") == load_architecture(out / "tiny.yaml") == tiny()


def test_json_is_one_object(tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(tiny_file), "--to", "json", "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["arch_id"] == tiny().arch_id
    assert told["files"] == {"json": str(tmp_path / "out" / "tiny.json")}
    assert told["weights"] is None


def test_formats_with_weights_inside_say_that_they_are_initial_ones(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them hold the same, and so does the file that `load_model` reads."""
    out = tmp_path / "out"
    assert run(["export", str(tiny_file), "--to", "torchscript", "--out", str(out)]) == 0
    assert "initial ones, not trained" in capsys.readouterr().err
    assert "**not trained**" in (out / "model_card.md").read_text()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(out / "tiny.torchscript.pt")(images), nas.load_model(out)(images))


def test_the_card_states_where_a_network_comes_from(tmp_path: Path) -> None:
    conditions = {"runtime": "torch", "device_name": "A | phone", "threads": 2, "versions": {"torch": "2.9"}}
    origin = {
        "run": "runs/one",
        "space": "mobilenetv3",
        "trial": 3,
        "evaluator": "proxy",
        "data": {"source": "digits"},
        "metrics": {"accuracy": 0.91234, "latency_ms": 12.5, "measured_latency_ms": 13.25},
        "latency_conditions": conditions,
        "measured_conditions": {**conditions, "threads": 1},
    }
    card = export_network(tiny(provenance=origin), ["yaml"], tmp_path / "out").card.read_text()
    for words in ("runs/one", "mobilenetv3", "| data.source | digits |", "| accuracy | 0.91234 |", tiny().arch_id):
        assert words in card
    assert "| predicted | 12.5 | torch on A \\| phone, 2 threads, float32 (torch 2.9) |" in card
    assert "| measured | 13.25 | torch on A \\| phone, 1 thread, float32 (torch 2.9) |" in card
    bare = export_network(tiny(), ["yaml"], tmp_path / "bare").card.read_text()
    assert "did not come from a search" in bare
    assert "Neither predicted nor measured" in bare


@pytest.mark.parametrize("name", ["mobilenetv3-large", "efficientnetv2-l"])
def test_the_source_is_laid_out_and_short(name: str, tmp_path: Path) -> None:
    """As `ruff format` has it at any usual width; eighty blocks need no more than a few functions."""
    architecture = load_architecture(name)
    source = tmp_path / "network.py"
    source.write_text(network_source(architecture, name))
    for command in (
        ["format", "--check", "--line-length", "88"],
        ["format", "--check", "--line-length", "120"],
        ["check"],
    ):
        ruff = [sys.executable, "-m", "ruff", *command, "--isolated", str(source)]
        done = subprocess.run(ruff, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    text = source.read_text()
    assert "search_space" not in text
    assert len(text.splitlines()) < 450
    assert architecture.arch_id in text


def test_the_source_needs_torch_only(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(network_source(tiny(), "tiny"))
    code = (
        "import sys; sys.path = [p for p in sys.path if 'site-packages' in p or 'lib' in p]; sys.path.insert(0, '.')\n"
        "import torch, tiny\n"
        "print(tuple(tiny.Tiny(num_classes=5)(torch.zeros(2, 3, 40, 40)).shape))\n"
        "print([name for name in ('search_space', 'nas', 'timm', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.splitlines() == ["(2, 5)", "[]"], done.stderr


# What is not expressible in other libraries.


@pytest.mark.parametrize(
    ("changes", "library", "said"),
    [
        (
            {"stages": (Stage((block(type="identity", out_channels=16, stride=2),)),)},
            "timm",
            "stages[0].blocks[0].type",
        ),
        ({"stages": (Stage((block(type="conv", out_channels=16, stride=3),)),)}, "timm", "stages[0].blocks[0].stride"),
        (
            {"stages": (Stage((block(type="fused_mbconv", out_channels=16, expand_ratio=1, se_ratio=0.5),)),)},
            "timm",
            "stages[0].blocks[0].se_ratio",
        ),
        (
            {"stages": (Stage((block(type="mbconv", out_channels=16, activation="gelu"),)),)},
            "timm",
            "stages[0].blocks[0].activation",
        ),
        ({"stages": (Stage((block(type="mbconv", out_channels=12),)),)}, "torchvision", "stages[0].blocks[0]"),
        ({"input_channels": 1}, "torchvision", "input_channels"),
    ],
)
def test_the_field_that_cannot_be_expressed_is_named(changes: dict[str, Any], library: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        EXPORTERS[library].check(tiny(**changes))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_eps": 1e-3, "drop_path_rate": 0.0, "input_channels": 1},
        {
            "stages": (
                Stage((block(type="conv", out_channels=20), block(type="mbconv", out_channels=20, se_ratio=0.1))),
            )
        },
        {
            "stages": (
                Stage(
                    (
                        block(
                            type="mbconv", out_channels=24, stride=2, expand_ratio=1.3, se_ratio=0.3, activation="relu"
                        ),
                    )
                ),
                Stage((block(type="depthwise_separable", out_channels=32, stride=2, activation="hard_swish"),)),
                Stage(tuple(block(type="fused_mbconv", out_channels=24, expand_ratio=1) for _ in range(2))),
            )
        },
    ],
)
def test_odd_networks_are_the_same_in_timm(changes: dict[str, Any], tmp_path: Path) -> None:
    """`write` compares the logits of the network that timm builds."""
    export_network(tiny(**changes), ["timm"], tmp_path / "out")


# Loading back.


def test_load_model_renews_what_depends_on_the_classes_only(tiny_weights: Path, tmp_path: Path) -> None:
    export_network(tiny(), ["yaml"], tmp_path / "out", weights=tiny_weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = nas.load_model(tmp_path / "out", num_classes=7).state_dict()
        assert not nas.load_model(tmp_path / "out" / "tiny.yaml").training
    with pytest.warns(UserWarning, match="3 classes instead of 7: head.4.weight, head.4.bias have initial weights"):
        other = nas.load_model(tmp_path / "out", num_classes=3)
    assert other(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    given = load_file(tiny_weights)
    for name, tensor in other.state_dict().items():
        assert torch.equal(same[name], given[name])
        assert name.startswith("head.4.") or torch.equal(tensor, given[name])
    with pytest.raises(InputError, match="num_classes must be"):
        nas.load_model(tmp_path / "out", num_classes=0)


def test_load_model_says_if_there_are_no_weights(tmp_path: Path) -> None:
    export_network(tiny(), ["json"], tmp_path / "out")
    with pytest.warns(UserWarning, match="the network has initial weights"):
        nas.load_model(str(tmp_path / "out"))


def test_load_model_refuses_what_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the folder holds no architecture file"):
        nas.load_model(tmp_path)
    with pytest.raises(InputError, match="cannot read the file"):
        nas.load_model(tmp_path / "none.yaml")
    export_network(tiny(), ["yaml"], tmp_path / "out")
    save_architecture(tiny(name="other"), tmp_path / "out" / "other.yaml")
    with pytest.raises(InputError, match=r"name one of other\.yaml, tiny\.yaml"):
        nas.load_model(tmp_path / "out")
