"""Layout of Python source: ruff's formatter, so that it need not be laid out again wherever it goes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

from search_space.errors import WorkFailed, one_line

_FOLDED = re.compile(r"(?<=[\w\])]\()\n( +)(\S.*[^,\s])\n *\)")
"""Arguments that were put on a line of their own, because they did not fit beside what they belong to."""
_WIDTHS = (88, 160)
_ROUNDS = 4


def formatted(source: str) -> str:
    """The source as `ruff format` has it, at its own width of 88 as well as at wider ones; imports sorted, none unused.

    What is folded at 88 would be unfolded at 120. Folded arguments stay one a line for a comma at their end; statements
    that are folded otherwise are kept on their line by `# fmt: skip`. Raises `WorkFailed`.
    """
    text = _ruff(["check", "--fix", "--select", "F401,I"], source)
    for _ in range(_ROUNDS):
        text = _format(text, _WIDTHS[0])
        changed = _with_commas(text)
        if changed == text:
            changed = _kept_on_a_line(text, _format(text, _WIDTHS[1]))
        if changed == text:
            break
        text = changed
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


def _kept_on_a_line(folded: str, wide: str) -> str:
    """Simple statements that a wider layout has on one line, put there and marked."""
    lines, wide_lines = folded.splitlines(), wide.splitlines()
    for (first, last), (start, end) in reversed(list(zip(_statements(folded), _statements(wide), strict=True))):
        if first != last and start == end:
            lines[first - 1 : last] = [f"{wide_lines[start - 1]}  # fmt: skip"]
    return "\n".join(lines) + "\n"


def _statements(text: str) -> list[tuple[int, int]]:
    """First and last line of the simple statements, in order."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt) and not hasattr(node, "body")]
    return sorted((node.lineno, node.end_lineno or node.lineno) for node in found)


def _format(text: str, width: int) -> str:
    return _ruff(["format", "--line-length", str(width)], text)


def _ruff(arguments: list[str], source: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--quiet", "--stdin-filename", "network.py", "-"]
    done = subprocess.run(command, input=source, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise WorkFailed(f"ruff cannot lay out the source: {one_line(done.stderr or done.stdout)[:300]}")
    return done.stdout
