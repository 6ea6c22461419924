"""Layout of Python source: ruff's formatter, with its own defaults whatever folder it is run in."""

from __future__ import annotations

import subprocess
import sys

from search_space.errors import WorkFailed, one_line


def formatted(source: str) -> str:
    """The source as `ruff format` lays it out, unused imports removed and the others sorted. Raises `WorkFailed`."""
    rules = ["--isolated", "--quiet", "--stdin-filename", "network.py"]
    checked = _ruff(["check", "--fix", "--select", "F401,I", *rules, "-"], source)
    return _ruff(["format", *rules, "-"], checked)


def _ruff(arguments: list[str], source: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments], input=source, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise WorkFailed(f"ruff cannot lay out the source: {one_line(done.stderr or done.stdout)[:300]}")
    return done.stdout
