"""A latency table's file, valid and not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import hand_made
from support import TINY_SPACE, space

from latency import save_table


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "table.json"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A valid table's file."""
    made = tmp_path_factory.mktemp("valid") / "table.json"
    save_table(hand_made(space(TINY_SPACE)), made)
    return made.read_text()


@pytest.fixture
def plain(text: str) -> dict[str, Any]:
    """A valid table's data."""
    made: dict[str, Any] = json.loads(text)
    return made
