"""Print what was looked up: a table, JSON or YAML, once or again and again while it changes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from hostmesh.cli.output import structured
from hostmesh.cli.status import INTERVAL, table

Row = tuple[str, ...]
watch_option = click.option("-w", "--watch", is_flag=True, help=f"Look again every {INTERVAL:.0f} seconds.")

_COLOURS = {
    "Available": "green",
    "Initializing": "yellow",
    "Unavailable": "red",
    "Unhealthy": "red",
    "Deny": "red",
    "false": "red",
    "no": "yellow",
}


def show(output: str, values: list[Any] | dict[str, Any], rows: Callable[[], list[Row]]) -> None:
    """Print once; `rows` begin with the header and are made only if a table is wanted."""
    if not structured(output, values):
        click.echo("\n".join(coloured(table(rows()))))


def coloured(lines: list[str]) -> list[str]:
    """Words that matter in colour; click leaves the colours out where nobody sees them."""
    return [lines[0], *("".join(_paint(word) for word in _words(line)) for line in lines[1:])] if lines else []


def _words(line: str) -> Iterator[str]:
    for number, word in enumerate(line.split(" ")):
        yield from ((" ",) if number else ())
        yield word


def _paint(word: str) -> str:
    colour = _COLOURS.get(word)
    return click.style(word, fg=colour) if colour else word


def watch(look: Callable[[], list[Row]], *, terminal: bool, wait: Callable[[], bool]) -> None:
    """Print again what has changed: the whole screen of a terminal, else only rows that are new.

    Args:
        look: the rows now.
        terminal: whether the screen can be cleared.
        wait: returns when it is time to look again; False ends it.
    """
    seen: set[Row] = set()
    head = True
    while True:
        rows = look()
        if terminal:
            click.clear()
            click.echo("\n".join(coloured(table(rows))))
        else:
            fresh = [row for row in rows[1:] if row not in seen]
            lines = table([rows[0], *fresh])
            click.echo("\n".join(lines if head else lines[1:]), nl=head or bool(fresh))
            seen, head = set(rows[1:]), False
        if not wait():
            return


def show_or_watch(
    output: str, look: Callable[[], list[Any]], rows: Callable[[list[Any]], list[Row]], *, again: bool
) -> None:
    """What every command of this kind does with its options."""
    if not again:
        values = look()
        show(output, values, lambda: rows(values))
        return
    if output in ("json", "yaml"):
        raise click.UsageError("--watch prints tables; leave -o out, or call the command again for JSON")
    terminal = sys.stdout.isatty()
    watch(lambda: rows(look()), terminal=terminal, wait=_wait)


def _wait() -> bool:
    time.sleep(INTERVAL)
    return True
