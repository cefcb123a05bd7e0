"""The journal: one hand-over for each turn."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pytest

from hostmesh.proxy.journal import Journal
from hostmesh.telemetry.logs import set_levels
from hostmesh.telemetry.records import LogRecord
from hostmesh.transport.loop import Loop


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    set_levels({"": logging.INFO})
    yield
    set_levels({"access": logging.NOTSET})


def test_records_of_a_turn_leave_together_and_in_order() -> None:
    """However many connections ended in it."""
    loop, batches = Loop(), list[Sequence[LogRecord]]()
    journal = Journal(loop, batches.append)
    first, second, third = (LogRecord("info", "access", text) for text in "abc")
    journal.add(first)
    journal.add(second)
    assert batches == []
    loop.turn(0)
    journal.add(third)
    loop.turn(0)
    assert batches == [[first, second], [third]]
    loop.close()


def test_what_is_not_wanted_is_not_sent() -> None:
    """Operators switch successes off and keep errors."""
    loop, batches = Loop(), list[Sequence[LogRecord]]()
    journal = Journal(loop, batches.append)
    set_levels({"access": logging.ERROR})
    journal.add(LogRecord("info", "access", "fine"))
    journal.add(LogRecord("error", "access", "not fine"))
    loop.turn(0)
    assert [[record.message for record in batch] for batch in batches] == [["not fine"]]
    loop.close()
