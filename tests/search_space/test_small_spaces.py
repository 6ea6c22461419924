"""Small spaces, every genotype of which is decoded: sizes, encoding, neighbours and reach are compared with that."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from search_space import SearchSpace, count_cost, load_space
from search_space.documents import parse_document
from search_space.reach import cost_range
from search_space.space import Genotype
from search_space.space_file import parse_space

HEAD = "schema_version: 1\nname: small\nresolution: 32\nstem: {type: conv, out_channels: 8}\nhead: {type: pooled}\n"

MBCONV_SPACES = {
    "one point": "stages: [{type: mbconv, out_channels: 8}]",
    "kernel per block": """stages:
- {type: mbconv, out_channels: 16, num_layers: {choice: [1, 2, 3]}, kernel_size: {choice: [3, 5], per: block}}
""",
    "stage and block choices": """stages:
- type: mbconv
  out_channels: {choice: [8, 16]}
  num_layers: {choice: [3, 1]}
  stride: {choice: [1, 2]}
  kernel_size: {choice: [3, 5], per: block}
  se_ratio: {choice: [0, 0.25]}
""",
    "adjacent stages merge": """stages:
- {type: mbconv, out_channels: 16, num_layers: {choice: [1, 2, 3]}, kernel_size: {choice: [3, 5], per: block}}
- {type: mbconv, out_channels: 16, num_layers: {choice: [1, 2]}, kernel_size: {choice: [5, 3], per: block}}
""",
    "adjacent stages merge at some widths": """stages:
- {type: mbconv, out_channels: {choice: [8, 16]}, num_layers: {choice: [1, 2]}, kernel_size: {choice: [3, 5]}}
- {type: mbconv, out_channels: {choice: [16, 24]}, num_layers: {choice: [1, 3]}, kernel_size: {choice: [3, 5]}}
- {type: mbconv, out_channels: {choice: [24, 16]}, num_layers: {choice: [1, 2]}, stride: {choice: [1, 2]}}
""",
    "variant without effect": """stages:
- type: mbconv
  out_channels: 8
  num_layers: {choice: [1, 2]}
  se_ratio: {choice: [0, 0.25, 0.5]}
  se_variant: {choice: [efficientnet, mobilenetv3]}
""",
    "variant without effect per block": """stages:
- type: mbconv
  out_channels: 8
  num_layers: {choice: [2, 1]}
  se_ratio: {choice: [0.25, 0], per: block}
  se_variant: {choice: [mobilenetv3, efficientnet], per: block}
""",
}
OTHER_SPACES = {
    "type that lacks fields": """stages:
- type: {choice: [mbconv, conv, depthwise_separable]}
  out_channels: {choice: [8, 16]}
  num_layers: {choice: [1, 2]}
  expand_ratio: {choice: [3, 6]}
  se_ratio: {choice: [0, 0.25]}
""",
    "type per block": """stages:
- type: {choice: [conv, mbconv], per: block}
  out_channels: 16
  num_layers: {choice: [1, 3]}
  expand_ratio: {choice: [1, 3], per: block}
- {type: {choice: [conv, fused_mbconv]}, out_channels: 16, num_layers: {choice: [1, 2]}}
""",
    "type per block, ratio per stage": """stages:
- type: {choice: [conv, mbconv], per: block}
  out_channels: 16
  num_layers: {choice: [1, 3]}
  expand_ratio: {choice: [1, 3]}
  activation: {choice: [relu, silu]}
""",
    "head, stem and resolution": """stages: [{type: conv, out_channels: {choice: [8, 12]}}]
resolution: {choice: [48, 32]}
stem: {type: conv, out_channels: {choice: [4, 8]}, kernel_size: {choice: [3, 5]}}
head:
  type: pooled
  conv_channels: {choice: [0, 16]}
  hidden_channels: {choice: [0, 16]}
  activation: {choice: [silu, relu]}
  dropout: {choice: [0, 0.2]}
""",
}
IDENTITY = "{identity: {type: identity}, k3: {type: mbconv, kernel_size: 3, expand_ratio: 2}, other: {type: conv}}"
IDENTITY_SPACES = {
    "identity per block": f"""stages:
- {{num_layers: {{choice: [1, 2, 3]}}, out_channels: 16, stride: 2, op: {{choice: {IDENTITY}, per: block}}}}
""",
    "identity per stage": f"""stages:
- {{num_layers: {{choice: [3, 2]}}, out_channels: {{choice: [8, 16]}}, op: {{choice: {IDENTITY}}}}}
- {{type: conv, out_channels: 16, kernel_size: {{choice: [3, 5]}}}}
""",
    "identity first, width as before": f"""stages:
- {{num_layers: 2, out_channels: 8, op: {{choice: {IDENTITY}, per: block}}}}
- {{num_layers: {{choice: [1, 2]}}, out_channels: {{choice: [8, 16]}}, stride: {{choice: [1, 2]}},
   op: {{choice: {IDENTITY}, per: block}}}}
- {{type: conv, out_channels: 8}}
""",
    "identity by type, width per block": """stages:
- type: {choice: [mbconv, identity], per: block}
  num_layers: {choice: [2, 3]}
  out_channels: {choice: [16, 8], per: block}
  expand_ratio: {choice: [3, 2]}
- {type: {choice: [identity, mbconv]}, num_layers: {choice: [1, 2]}, out_channels: 8, stride: 2, expand_ratio: 2}
""",
    "identity in stages that merge": f"""stages:
- {{num_layers: {{choice: [1, 2]}}, out_channels: 16, op: {{choice: {IDENTITY}, per: block}}}}
- {{num_layers: 2, out_channels: 16, op: {{choice: {IDENTITY}, per: block}}}}
""",
    "identity behind two stems": f"""stages:
- {{num_layers: 2, out_channels: {{choice: [16, 24]}}, op: {{choice: {IDENTITY}, per: block}}}}
- {{type: conv, out_channels: {{choice: [16, 24]}}, stride: 2}}
stem: {{type: conv, out_channels: {{choice: [16, 8]}}, kernel_size: {{choice: [3, 5]}}}}
""",
}
SPACES = MBCONV_SPACES | OTHER_SPACES | IDENTITY_SPACES


def _text(stages: str) -> str:
    keys = {line.split(":")[0] for line in stages.splitlines()}
    return "\n".join(line for line in HEAD.splitlines() if line.split(":")[0] not in keys) + "\n" + stages


@functools.cache
def space_of(name: str) -> SearchSpace:
    return parse_space(parse_document(_text(SPACES[name]), name))


def genotypes(space: SearchSpace) -> Iterator[Genotype]:
    return itertools.product(*(range(len(gene.options)) for gene in space.genes))


@functools.cache
def arch_ids(name: str) -> dict[Genotype, str]:
    """Every genotype of the space, with its architecture."""
    return {genotype: space_of(name).decode(genotype).arch_id for genotype in genotypes(space_of(name))}


@pytest.mark.parametrize("name", SPACES)
def test_size_counts_distinct_architectures(name: str, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(_text(SPACES[name]))
    space = load_space(path)
    assert space.num_genotypes == len(arch_ids(name))
    assert space.size == len(set(arch_ids(name).values()))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("one point", 1),
        ("kernel per block", 2 + 4 + 8),
        ("variant without effect", 10),
        # The first block may be one of three, then none, one or two of two.
        ("identity per block", 3 * (1 + 2 + 4)),
    ],
)
def test_size_counted_by_hand(name: str, size: int) -> None:
    assert space_of(name).size == size


def test_merging_stages_are_counted_once() -> None:
    # Sequences of 2 to 5 kernel sizes, each 3 or 5, however the blocks are split over the two stages.
    assert space_of("adjacent stages merge").size == 4 + 8 + 16 + 32


@pytest.mark.parametrize("name", SPACES)
def test_every_genotype_encodes_to_one_of_its_architecture(name: str) -> None:
    space, known = space_of(name), arch_ids(name)
    firsts: dict[str, Genotype] = {}
    for genotype, arch_id in known.items():
        encoded = space.encode(space.decode(genotype))
        assert known[encoded] == arch_id
        assert firsts.setdefault(arch_id, encoded) == encoded


@pytest.mark.parametrize("name", SPACES)
def test_genes_that_are_not_active_change_nothing(name: str) -> None:
    space, known = space_of(name), arch_ids(name)
    for genotype, arch_id in known.items():
        for index in set(range(len(space.genes))) - set(space.active(genotype)):
            for option in range(len(space.genes[index].options)):
                assert known[(*genotype[:index], option, *genotype[index + 1 :])] == arch_id


@pytest.mark.parametrize("name", SPACES)
def test_the_canonical_genotype_is_of_the_same_network(name: str) -> None:
    space, known = space_of(name), arch_ids(name)
    for genotype, arch_id in known.items():
        canonical = space.canonical(genotype)
        assert known[canonical] == arch_id
        assert space.canonical(canonical) == canonical
        active = space.active(canonical)
        assert not any(option for index, option in enumerate(canonical) if index not in active)


# Where a block could as well be the last of a stage as the first of the next, spellings are left over.
LEFT_OVER = {
    "adjacent stages merge": 24,
    "adjacent stages merge at some widths": 6,
    "identity first, width as before": 18,
    "identity by type, width per block": 27,
    "identity in stages that merge": 18,
}


@pytest.mark.parametrize("name", SPACES)
def test_a_network_has_one_canonical_genotype(name: str) -> None:
    space = space_of(name)
    canonical = {space.canonical(genotype) for genotype in arch_ids(name)}
    assert len(canonical) == space.size + LEFT_OVER.get(name, 0)


@pytest.mark.parametrize("name", SPACES)
def test_neighbours_are_all_that_one_gene_can_reach(name: str) -> None:
    space, known = space_of(name), arch_ids(name)
    for genotype in known:
        neighbours = list(space.neighbours(genotype))
        reached = [known[neighbour] for neighbour in neighbours]
        assert len(set(reached)) == len(reached)
        assert known[genotype] not in reached
        assert all(sum(a != b for a, b in zip(genotype, n, strict=True)) == 1 for n in neighbours)
        changes = ((i, option) for i, gene in enumerate(space.genes) for option in range(len(gene.options)))
        one_gene = {known[(*genotype[:i], option, *genotype[i + 1 :])] for i, option in changes}
        assert set(reached) == one_gene - {known[genotype]}


@pytest.mark.parametrize("name", SPACES)
def test_neighbours_are_mutual(name: str) -> None:
    space, known = space_of(name), arch_ids(name)
    reached = {genotype: {known[n] for n in space.neighbours(genotype)} for genotype in known}
    for genotype in known:
        for neighbour in space.neighbours(genotype):
            assert known[genotype] in reached[neighbour]


@pytest.mark.parametrize("name", ["kernel per block", "type that lacks fields"])
def test_sample_is_uniform_over_genotypes(name: str) -> None:
    # Chi-square at p < 1e-6: fails wrongly once in a million generators (and never with this one, once it passed).
    space = space_of(name)
    rng = np.random.default_rng(0)
    counts = dict.fromkeys(arch_ids(name), 0)
    for _ in range(50 * len(counts)):
        counts[space.sample(rng)] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 1e-6


@pytest.mark.parametrize("metric", ["params", "macs", "activations", "memory_mb"])
@pytest.mark.parametrize("name", SPACES)
def test_cost_range_is_exact(name: str, metric: str) -> None:
    costs = {count_cost(space_of(name).decode(genotype)).metrics()[metric] for genotype in arch_ids(name)}
    assert cost_range(space_of(name), metric) == (min(costs), max(costs))


def test_width_may_be_chosen_per_block() -> None:
    # Blocks of other widths are stages of their own in the canonical form: 8-8, 8-16, 16-8, 16-16.
    text = _text("stages: [{type: mbconv, num_layers: 2, out_channels: {choice: [8, 16], per: block}}]")
    space = parse_space(parse_document(text, "wide.yaml"))
    assert space.size == 4
    networks = [space.decode(genotype) for genotype in itertools.product(range(2), repeat=2)]
    assert [len(network.stages) for network in networks] == [1, 2, 2, 1]
    assert [space.encode(network) for network in networks] == list(itertools.product(range(2), repeat=2))


STAGE = """
- type: mbconv
  out_channels: {choice: [8, 16, 24]}
  num_layers: {choice: [1, 2, 3, 4, 5, 6]}
  kernel_size: {choice: [3, 5, 7]}
  expand_ratio: {choice: [3, 4, 6]}
"""


def test_size_of_equal_adjacent_stages() -> None:
    one = parse_space(parse_document(_text("stages:" + STAGE)))
    assert one.size == one.num_genotypes == 162
    assert parse_space(parse_document(_text("stages:" + STAGE * 2))).size == 25_569


def test_size_of_a_wide_space_takes_no_minutes(tmp_path: Path) -> None:
    wide = (
        STAGE.replace("[3, 5, 7]", "[3, 5, 7, 9]")
        .replace("[3, 4, 6]", "[1, 2, 3, 4, 5, 6]")
        .replace("5, 6]}\n  k", "5, 6, 7, 8]}\n  k")
    )
    (tmp_path / "wide.yaml").write_text(_text("stages:" + (wide + "  se_ratio: {choice: [0, 0.25]}\n") * 4))
    code = "import sys; from search_space import load_space; print(load_space(sys.argv[1]).size)"
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "wide.yaml"], capture_output=True, text=True, timeout=25, check=True
    )
    assert 0 < int(run.stdout) < 1152**4
