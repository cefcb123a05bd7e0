"""What the demo claims and what it saw: one row per check."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lab.console import LabError

POLL_INTERVAL = 0.2


@dataclass(frozen=True, slots=True)
class Seen:
    """What a probe saw, and whether that is as expected."""

    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    check: str
    expected: str
    seen: Seen


@dataclass(slots=True)
class Table:
    """The rows so far; every new one is shown at once."""

    rows: list[Row] = field(default_factory=list)

    def check(self, check: str, expected: str, probe: Callable[[], Seen], *, within: float = 10.0) -> bool:
        """Probe until it is as expected, for at most `within` seconds, and note what was seen last."""
        seen = eventually(probe, within)
        self.rows.append(Row(check, expected, seen))
        print(f"  {'ok  ' if seen.ok else 'FAIL'}  {check}: {seen.text}", flush=True)
        return seen.ok

    @property
    def ok(self) -> bool:
        """Whether every check was as expected."""
        return all(row.seen.ok for row in self.rows)

    def render(self) -> str:
        """The table, as wide as the terminal."""
        width = max(shutil.get_terminal_size((150, 24)).columns, 100)
        check, expected = width * 26 // 100, width * 32 // 100
        widths = (check, expected, width - check - expected - 15, 3)
        lines = ["", _line(widths, ("check", "expected", "seen", "ok")), "  ".join("-" * w for w in widths)]
        for row in self.rows:
            cells = (row.check, row.expected, row.seen.text, "yes" if row.seen.ok else "NO")
            lines.append(_line(widths, cells))
        failed = sum(not row.seen.ok for row in self.rows)
        lines += [
            "",
            f"{len(self.rows)} checks, {failed} not as expected" if failed else f"{len(self.rows)} checks, all ok",
        ]
        return "\n".join(lines)


def eventually(probe: Callable[[], Seen], within: float) -> Seen:
    """Probe until it is as expected or the time is over."""
    deadline = time.monotonic() + within
    while True:
        try:
            seen = probe()
        except (LabError, OSError, ValueError, KeyError, IndexError) as error:
            seen = Seen(False, f"{type(error).__name__}: {error}")
        if seen.ok or time.monotonic() >= deadline:
            return seen
        time.sleep(POLL_INTERVAL)


def _line(widths: tuple[int, ...], cells: tuple[str, ...]) -> str:
    columns = [textwrap.wrap(cell, w) or [""] for cell, w in zip(cells, widths, strict=True)]
    height = max(map(len, columns))
    padded = [column + [""] * (height - len(column)) for column in columns]
    return "\n".join(
        "  ".join(part.ljust(w) for part, w in zip(parts, widths, strict=True)).rstrip()
        for parts in zip(*padded, strict=True)
    )
