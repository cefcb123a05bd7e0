"""Blocks of code in Markdown, and who runs them: the comment `<!-- run: host -->` before a block is for tests.

`run: host`, `run: control plane` and `run: controller` say where its commands are typed, `ends with 1` that this is how
they end; `not run:` says why nobody does. In a block with prompts (`# `, `$ `) everything else is what was answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MARK = re.compile(r"<!-- (run|not run): (.+) -->")
_PROMPT = re.compile(r"[#$] (?=\S)")
_TYPED = re.compile(
    r"(?:[#$] )?(?:hostmesh |ansible-playbook |systemctl |journalctl |nft |ssh |kubectl |openssl |make |curl )"
)
_FILE = re.compile(r"# ([\w./-]+\.ya?ml)$")
PLACES = ("host", "control plane", "controller")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of code. `where` is empty for one that nobody runs, and for one without a mark."""

    page: Path
    line: int
    lines: tuple[str, ...]
    marked: bool
    where: str = ""
    status: int = 0

    @property
    def commands(self) -> tuple[str, ...]:
        """What somebody types, continued lines joined."""
        joined = "\n".join(self.lines).replace("\\\n", " ").splitlines()
        prompted = [line for line in joined if _PROMPT.match(line)]
        return tuple(_PROMPT.sub("", line, count=1) for line in prompted) or tuple(filter(None, joined))

    @property
    def typed(self) -> bool:
        """Whether it looks as if somebody were to type it."""
        return any(_TYPED.match(line) for line in self.lines)

    @property
    def file(self) -> str:
        """The name of the file that it shows, if it says so in its first line."""
        match = _FILE.match(self.lines[0]) if self.lines else None
        return match[1] if match else ""


def blocks(page: Path) -> Iterator[Block]:
    """All blocks of a page: between fences, and indented ones after an empty line."""
    mark: re.Match[str] | None = None
    found: list[str] = []
    began, fenced, before = 0, False, ""
    for number, line in enumerate([*page.read_text(encoding="utf-8").splitlines(), ""], 1):
        fence = line.startswith("```")
        if fenced:
            if not fence:
                found.append(line)
                continue
            fenced = False
        elif line.startswith("    ") and (found or not before.strip()):
            began = began if found else number
            found.append(line[4:])
            before = line
            continue
        elif fence:
            fenced, began = True, number + 1
            before = line
            continue
        if found:
            yield _block(page, began, found, mark)
            mark, found = None, []
        mark = _MARK.fullmatch(line) or mark
        before = line


def _block(page: Path, line: int, lines: list[str], mark: re.Match[str] | None) -> Block:
    text = tuple(lines)
    if mark is None or mark[1] == "not run":
        return Block(page, line, text, mark is not None)
    where, _, ending = mark[2].partition(", ends with ")
    if where not in PLACES:
        raise ValueError(f"{page}:{line}: nobody runs anything on {where!r}; say one of {', '.join(PLACES)}")
    return Block(page, line, text, True, where, int(ending or 0))
