"""The files of a scaled family, and what else lies in their folder."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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
    """Write all that have a file. Warns if networks that were scaled otherwise lie beside them."""
    written = {one.file: one.architecture for one in members if one.file is not None}
    if not written:
        return
    folder = next(iter(written)).parent
    own = _family(next(iter(written.values())))
    others = {
        path: family
        for path in sorted(folder.glob("*.yaml"))
        if path not in written and (family := _family_in(path)) is not None and family != own
    }
    for file, architecture in written.items():
        save_architecture(architecture, file)
    if others:
        names = ", ".join(path.name for path in others)
        bases = ", ".join(dict.fromkeys(str(family["scaled_from"].get("name")) for family in others.values()))
        text = f"{folder} also holds networks of another family: {names} (of {bases}); another --out keeps them apart"
        warnings.warn(text, stacklevel=2)


def _family_in(path: Path) -> dict[str, Any] | None:
    try:
        return _family(load_architecture(path))
    except InputError:  # somebody else's file
        return None


def _family(architecture: Architecture) -> dict[str, Any] | None:
    """Base and rule, without what differs from member to member; None for a network that was not scaled."""
    base, scaling = (architecture.provenance.get(name) for name in ("scaled_from", "scaling"))
    if not isinstance(base, dict) or not isinstance(scaling, dict):
        return None
    rule = {name: value for name, value in scaling.items() if name not in _OF_ONE_MEMBER}
    return {"scaled_from": base, "scaling": rule}
