"""`python -m tools.recording [record]`: docs/images/demo.svg, an animation of a real run of `make demo`.

`record` runs it in a terminal of its own and keeps what it printed, and when, in docs/images/demo.cast (asciicast v2).
The picture is made from that: lines come from below at the times of the run, long pauses are shortened.
"""

from __future__ import annotations

import codecs
import json
import os
import pty
import re
import sys
import time
from collections.abc import Iterable, Iterator
from html import escape
from itertools import dropwhile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CAST = ROOT / "docs" / "images" / "demo.cast"
PICTURE = CAST.with_suffix(".svg")
COLUMNS, ROWS = 118, 30
LINE, WIDTH, EDGE = 17, 8.0, 14
LONGEST_PAUSE, SPEED, REST = 1.0, 2.0, 12.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b\]8;[^\x07\x1b]*(?:\x07|\x1b\\)")
STYLE = (
    "text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#c9d1d9;white-space:pre}"
    ".p{fill:#79c0ff;font-weight:600}.o{fill:#7ee787}.c{fill:#d2a8ff}.d{fill:#8b949e}.f{fill:#ff7b72}"
)


def record(command: list[str]) -> list[tuple[float, str]]:
    """Run a command in a terminal; what it printed and when, in seconds."""
    began, events = time.monotonic(), []
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode  # a read may end within a character

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        events.append((round(time.monotonic() - began, 3), decode(data)))
        return data

    os.environ |= {"COLUMNS": str(COLUMNS), "LINES": str(ROWS), "TERM": "xterm"}
    status = os.waitstatus_to_exitcode(pty.spawn(command, read))
    if status:
        sys.exit(f"{' '.join(command)} ended with {status}; nothing is kept")
    return events


def write_cast(events: Iterable[tuple[float, str]]) -> str:
    """As asciinema has it: a header, then an event a line."""
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "make demo"}
    lines = [json.dumps(header), *(json.dumps([when, "o", text]) for when, text in events)]
    return "\n".join(lines) + "\n"


def lines(cast: str) -> Iterator[tuple[float, str]]:
    """Each line that was printed, and when it was complete."""
    rest = ""
    for written in cast.splitlines()[1:]:
        when, _, text = json.loads(written)
        rest += ESCAPES.sub("", text)
        *whole, rest = rest.split("\n")
        for line in whole:
            yield when, line.rstrip("\r").rpartition("\r")[2]


def moments(times: Iterable[float]) -> list[float]:
    """When each line comes in the picture: pauses shortened, and all of it faster."""
    now, before, found = 0.0, 0.0, []
    for when in times:
        now += min(when - before, LONGEST_PAUSE) / SPEED
        before = when
        found.append(round(now, 2))
    return found


def picture(cast: str) -> str:
    """The animation: one tall text, moved up behind a window."""
    # What make installs beforehand is not the demo.
    shown = dropwhile(lambda line: not line[1].startswith("== "), lines(cast))
    seen = [(0.0, "$ make demo"), *shown]
    when = moments(time for time, _ in seen)
    total = when[-1] + REST
    width, height = round(COLUMNS * WIDTH + 2 * EDGE), ROWS * LINE + 2 * EDGE + 26
    frames = [
        f"{100 * moment / total:.3f}%{{transform:translateY({-LINE * number}px)}}" for number, moment in _steps(when)
    ]
    last = f"100%{{transform:translateY({-LINE * len(seen)}px)}}"
    body = [
        f'<text class="{_kind(line)}" x="{EDGE}" y="{LINE * (ROWS + number) - 4}">{escape(line[:COLUMNS])}</text>'
        for number, (_, line) in enumerate(seen, 1)
        if line
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
            f"<title>A run of make demo</title><style>{STYLE}",
            f"#t{{animation:t {total:.2f}s step-end infinite}}@keyframes t{{{''.join(frames)}{last}}}</style>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
            '<circle cx="20" cy="17" r="5" fill="#ff7b72"/><circle cx="38" cy="17" r="5" fill="#e3b341"/>',
            f'<circle cx="56" cy="17" r="5" fill="#7ee787"/><svg y="30" width="{width}" height="{ROWS * LINE + EDGE}">',
            '<g id="t">',
            *body,
            "</g></svg></svg>",
        ]
    ) + "\n"  # fmt: skip


def _steps(when: list[float]) -> Iterator[tuple[int, float]]:
    """How many lines there are from a moment on, once for each moment; at the beginning there are none."""
    if not when or when[0] > 0:
        yield 0, 0.0
    for number, moment in enumerate(when, 1):
        if number == len(when) or when[number] != moment:
            yield number, moment


def _kind(line: str) -> str:
    """The colour of a line."""
    text = line.lstrip()
    for start, kind in (("$ ", "c"), ("== ", "p"), ("ok  ", "o"), ("FAIL", "f"), ("TASK", "d"), ("changed:", "d")):
        if text.startswith(start):
            return kind
    return "n"


def main() -> None:
    """Record if asked to, and make the picture."""
    CAST.parent.mkdir(exist_ok=True)
    if sys.argv[1:] == ["record"]:
        CAST.write_text(write_cast(record(["make", "--no-print-directory", "demo"])), encoding="utf-8")
    PICTURE.write_text(picture(CAST.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
