"""`nas export` and `nas.load_model` as a user meets them: what is written, what is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import nas
from nas.cli import run
from nas.export import EXPORTERS
from nas.export.api import export_network
from nas.export.names import class_name
from nas.export.torch import load_source, network_source
from nas.export.weights import write_weights
from search_space import Architecture, Block, InputError, Stage, build_model, component, load_architecture
from search_space.architecture_file import save_architecture
from search_space.component import from_dict, register
from search_space.layers import BuildContext
from search_space.rules import Integer

ROOT = Path(__file__).parents[2]


def block(**fields: Any) -> Block:
    made = from_dict("block", fields)
    assert isinstance(made, Block)
    return made


def tiny(**changes: Any) -> Architecture:
    """A network that takes no time to build: a fused block, an MBConv with a shortcut and squeeze-excite."""
    base = load_architecture("efficientnet-b0")
    first = block(type="fused_mbconv", out_channels=16, stride=2, expand_ratio=2)
    later = block(type="mbconv", out_channels=16, expand_ratio=2, se_ratio=0.25, activation="silu")
    head = dataclasses.replace(base.head, conv_channels=32)  # type: ignore[call-arg]
    stages = (Stage((first, later)),)
    return base.replace(
        **{"name": "tiny", "resolution": 32, "num_classes": 7, "stages": stages, "head": head, **changes}
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Its architecture file."""
    path = tmp_path / "tiny.yaml"
    save_architecture(tiny(), path)
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights for it, other than the initial ones."""
    torch.manual_seed(5)
    path = tmp_path / "weights.safetensors"
    write_weights(path, build_model(tiny()).state_dict(), "")
    return path


def one_line_error(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


# What is written.


def test_several_formats_at_once(file: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "out"
    request = ["export", str(file), "--to", "json,torch,timm,json", "--out", str(out), "--weights", str(weights)]
    assert run(request) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(out / name) for name in ("tiny.json", "tiny.py", "tiny_timm.py")]
    names = {"tiny.json", "tiny.py", "tiny_timm.py", "tiny.timm.safetensors", "tiny.yaml", "tiny.safetensors"}
    assert {path.name for path in out.iterdir()} == {*names, "model_card.md"}
    given, written = load_file(weights), load_file(out / "tiny.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in given.items())
    assert load_architecture(out / "tiny.json") == load_architecture(out / "tiny.yaml") == tiny()


def test_json_is_one_object(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(file), "--to", "json", "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["arch_id"] == tiny().arch_id
    assert told["files"] == {"json": str(tmp_path / "out" / "tiny.json")}
    assert told["weights"] is None


def test_formats_with_weights_inside_say_that_they_are_initial_ones(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them hold the same, and so does the file that `load_model` reads."""
    out = tmp_path / "out"
    assert run(["export", str(file), "--to", "torchscript", "--out", str(out)]) == 0
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


# A block type that nobody has heard of.


def mixed(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Norm(nn.LayerNorm):
    """Over the channels of [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Odd(nn.Module):
    """Everything that a module can hold."""

    scale = 0.5

    def __init__(self, channels: int, groups: int, deep: bool) -> None:
        super().__init__()
        self.groups = groups
        self.never_read = object()
        self.gain = nn.Parameter(1e-2 * torch.ones(channels, 1, 1))
        self.register_buffer("shift", torch.arange(channels).float()[:, None, None], persistent=False)
        self.convs = nn.ModuleList([nn.Conv2d(channels, channels, 1) for _ in range(2)])
        self.norm = Norm(channels)
        self.deep = nn.Conv2d(channels, channels, 3, padding=1, groups=groups) if deep else None

    @property
    def factor(self) -> float:
        return self.scale / 2

    def forward(self, x: Tensor) -> Tensor:
        y = self._mixed(self.norm(x))
        for conv in self.convs:
            y = F.gelu(conv(y)) * self.factor
        if self.deep is not None:
            y = self.deep(y)
        return x + self.gain * (y + self.shift / 100)

    def _mixed(self, x: Tensor) -> Tensor:
        return mixed(x, self.groups)


@dataclass(frozen=True, kw_only=True)
class OddBlock(Block):
    """Modules of its own, held in a Sequential with names."""

    groups: Annotated[int, Integer(1, 64)] = 2

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        layers = nn.Sequential()
        layers.add_module("widen", nn.Conv2d(in_channels, self.out_channels, 3, self.stride, 1))
        layers.add_module("odd", Odd(self.out_channels, self.groups, self.groups > 2))
        layers.add_module("act", nn.PReLU())
        return layers


class Sourceless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * UNKNOWN.factor


class Unknown:
    factor = 2


UNKNOWN = Unknown()


@dataclass(frozen=True, kw_only=True)
class SourcelessBlock(Block):
    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        return nn.Sequential(nn.Conv2d(in_channels, self.out_channels, 1, self.stride), Sourceless())


@pytest.fixture
def new_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(component, "_registry", dict(component._registry))
    register("odd")(OddBlock)
    register("sourceless")(SourcelessBlock)


@pytest.mark.usefixtures("new_types")
def test_a_new_block_type_needs_no_change(tmp_path: Path) -> None:
    blocks = (
        OddBlock(out_channels=16, stride=2),
        OddBlock(out_channels=16, groups=4),
        OddBlock(out_channels=16, groups=8),
    )
    architecture = tiny(stages=(Stage(blocks),))
    torch.manual_seed(2)
    model = build_model(architecture).eval()
    for name, value in model.named_parameters():
        if "gain" in name:
            nn.init.normal_(value)
    write_weights(tmp_path / "w.safetensors", model.state_dict(), "")
    exported = export_network(
        architecture, ["torch", "torchscript", "onnx"], tmp_path / "out", weights=tmp_path / "w.safetensors"
    )
    source = exported.files["torch"].read_text()
    assert source.count("class Odd(") == 1
    assert "def mixed(" in source
    assert "never_read" not in source
    again = load_source(source, class_name(architecture)).eval()
    again.load_state_dict(load_file(tmp_path / "w.safetensors"))
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(images), model(images))
    for library in ("timm", "torchvision"):
        with pytest.raises(InputError, match=r"cannot express type.*odd"):
            EXPORTERS[library].check(architecture)


@pytest.mark.usefixtures("new_types")
def test_what_cannot_be_written_as_source_is_refused_by_name(tmp_path: Path) -> None:
    architecture = tiny(stages=(Stage((SourcelessBlock(out_channels=8),)),))
    with pytest.raises(InputError, match=r"Sourceless cannot be written as source: it uses UNKNOWN") as caught:
        export_network(architecture, ["torch"], tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


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


# What is refused.


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
    options: list[str], said: str, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    save_architecture(tiny(drop_path_rate=0.1, input_channels=4), file)
    before = set(file.parent.rglob("*"))
    assert run(["export", "tiny.yaml", *options]) == 2
    assert said in one_line_error(capsys)
    assert set(file.parent.rglob("*")) == before


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
    how: str, said: str, file: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_file(weights)
    ordered = {name: state[name] for name in build_model(tiny()).state_dict()}
    spoil(ordered, how)
    save_file(ordered, tmp_path / "bad.safetensors")
    request = ["export", str(file), "--weights", str(tmp_path / "bad.safetensors"), "--out", str(tmp_path / "out")]
    assert run(request) == 2
    assert said in one_line_error(capsys)
    assert not (tmp_path / "out").exists()
    out = export_network(tiny(), ["yaml"], tmp_path / "out", weights=weights).card.parent
    save_file(ordered, out / "tiny.safetensors")
    with pytest.raises(InputError) as caught:
        nas.load_model(out)
    assert said in str(caught.value)


def test_a_missing_extra_says_how_to_get_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert run(["export", str(file), "--to", "yaml,onnx", "--out", str(tmp_path / "out")]) == 2
    assert "onnx is not installed (--to onnx); pip install 'nas[onnx]'" in one_line_error(capsys)
    assert not (tmp_path / "out").exists()


def test_a_folder_holds_one_network(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


# Loading back.


def test_load_model_renews_what_depends_on_the_classes_only(weights: Path, tmp_path: Path) -> None:
    export_network(tiny(), ["yaml"], tmp_path / "out", weights=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = nas.load_model(tmp_path / "out", num_classes=7).state_dict()
        assert not nas.load_model(tmp_path / "out" / "tiny.yaml").training
    with pytest.warns(UserWarning, match="3 classes instead of 7: head.4.weight, head.4.bias have initial weights"):
        other = nas.load_model(tmp_path / "out", num_classes=3)
    assert other(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    given = load_file(weights)
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
