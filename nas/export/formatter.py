"""Layout of Python source: ruff's formatter, so that it need not be laid out again wherever it goes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

from search_space.errors import WorkFailed, one_line

_FOLDED = re.compile(r"(?<=[\w\])]\()\n( +)(\S.*[^,\s])\n *\)")
"""Arguments that were put on a line of their own, because they did not fit beside what they belong to."""
_ROUNDS = 4


def formatted(source: str) -> str:
    """The source as `ruff format` has it, at its own width of 88 as well as at wider ones; imports sorted, none unused.

    What was folded at 88 would be unfolded at 120, but for a comma at its end: then it stays an argument a line. Longer
    expressions without arguments that methods brought along are beyond this. Raises `WorkFailed`.
    """
    text = _ruff(["check", "--fix", "--select", "F401,I"], source)
    for _ in range(_ROUNDS):
        text = _ruff(["format"], text)
        unfolded = _with_commas(text)
        if unfolded == text:
            break
        text = unfolded
    return text


def _with_commas(text: str) -> str:
    """A comma behind folded arguments, where it does not change the meaning."""
    tree, start = ast.dump(ast.parse(text)), 0
    while (found := _FOLDED.search(text, start)) is not None:
        end, start = found.end(2), found.start() + 1
        changed = f"{text[:end]},{text[end:]}"
        try:
            same = ast.dump(ast.parse(changed)) == tree
        except SyntaxError:  # a generator as the only argument
            same = False
        text = changed if same else text
    return text


def _ruff(arguments: list[str], source: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--quiet", "--stdin-filename", "network.py", "-"]
    done = subprocess.run(command, input=source, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise WorkFailed(f"ruff cannot lay out the source: {one_line(done.stderr or done.stdout)[:300]}")
    return done.stdout
