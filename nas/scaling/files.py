"""The files of a scaled family, and what else lies in their folder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.scaling.result import FamilyMember
from search_space import Architecture, InputError, load_architecture, save_architecture
from search_space.scaling import Member

_OF_ONE_MEMBER = ("phi", "width_mult", "resolution")


def file_name(member: Member) -> str:
    """`b3.yaml` for phi 3, `w0.75-r192.yaml` for multipliers."""
    if member.phi is not None:
        return f"b{member.phi:g}.yaml"
    return f"w{member.width_mult:g}-r{member.architecture.resolution}.yaml"


def write_family(members: Sequence[FamilyMember]) -> None:
    """Write all that have a file. Warns if networks that were scaled otherwise were there, or are still."""
    written = {one.file: one.architecture for one in members if one.file is not None}
    if not written:
        return
    folder = next(iter(written)).parent
    own = _family(next(iter(written.values())))
    found = [(path, _family_in(path)) for path in sorted(folder.glob("*.yaml"))]
    others = [(path, family) for path, family in found if family is not None and family != own]
    for file, architecture in written.items():
        save_architecture(architecture, file)
    replaced = [(path, family) for path, family in others if path in written]
    left = [(path, family) for path, family in others if path not in written]
    for text, some in (("replaced {} of another family", replaced), ("{} there are of another family", left)):
        if some:
            names = ", ".join(path.name for path, _ in some)
            bases = ", ".join(dict.fromkeys(family.base for _, family in some))
            said = f"{folder}: {text.format(names)} (of {bases}); another --out keeps families apart"
            warnings.warn(said, stacklevel=3)


@dataclass(frozen=True)
class _Family:
    """A base and a rule, without what differs from member to member."""

    base: str
    arch_id: str
    rule: Mapping[str, Any]


def _family_in(path: Path) -> _Family | None:
    try:
        return _family(load_architecture(path))
    except InputError:  # somebody else's file
        return None


def _family(architecture: Architecture) -> _Family | None:
    """None for a network that was not scaled."""
    base, scaling = (architecture.provenance.get(name) for name in ("scaled_from", "scaling"))
    if not isinstance(base, Mapping) or not isinstance(scaling, Mapping):
        return None
    rule = {name: value for name, value in scaling.items() if name not in _OF_ONE_MEMBER}
    return _Family(str(base.get("name")), str(base.get("arch_id")), rule)
