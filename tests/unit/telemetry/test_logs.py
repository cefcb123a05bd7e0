"""Levels per target, fields beside messages, forwarding from workers."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from hostmesh.telemetry.logs import (
    InvalidLevels,
    enabled,
    join_levels,
    parse_levels,
    replace_levels,
    set_levels,
    set_up,
    set_up_forwarding,
)
from hostmesh.telemetry.records import LogRecord


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The logging tree is one per process."""
    root, ours = logging.getLogger(), logging.getLogger("hostmesh")
    handlers, level = list(root.handlers), ours.level
    yield
    root.handlers[:] = handlers
    ours.setLevel(level)
    for name in ("hostmesh.access", "hostmesh.rbac"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("", {}),
        ("debug", {"": 10}),
        ("info,access=off", {"": 20, "access": 60}),
        ("warn, hostmesh.rbac=debug", {"": 30, "rbac": 10}),
        ("hostmesh::proxy::pool=error", {"proxy.pool": 40}),
    ],
)
def test_levels_are_read_as_rust_log(text: str, levels: dict[str, int]) -> None:
    """A default and targets, separated by commas; both spellings of a path."""
    assert parse_levels(text) == levels


@pytest.mark.parametrize("text", ["loud", "access=", "=debug", "a=b=c"])
def test_a_wrong_level_is_named(text: str) -> None:
    """The message says what would be right."""
    with pytest.raises(InvalidLevels, match="use "):
        parse_levels(text)


@pytest.mark.parametrize(
    ("before", "more", "joined"),
    [
        ("", "", "info"),
        ("warn", "", "warn"),
        ("info", "access=off", "access=off,info"),
        ("access=off,info", "debug", "access=off,debug"),
        ("access=off,info", "hostmesh::access=debug,rbac=trace", "access=debug,rbac=trace,info"),
        ("access=off", "rbac=debug", "access=off,rbac=debug,info"),
    ],
)
def test_filters_add_up(before: str, more: str, joined: str) -> None:
    """What comes later wins, target by target."""
    assert join_levels(before, more) == joined


def test_a_filter_replaces_another_one() -> None:
    """Targets that it does not name go by its default again."""
    replace_levels(parse_levels("access=off,rbac=debug"))
    assert enabled("rbac", "debug")
    replace_levels(parse_levels("warn"))
    assert [enabled(target, "warn") for target in ("access", "rbac")] == [True, True]
    assert [enabled(target, "info") for target in ("access", "rbac")] == [False, False]


def test_levels_apply_to_records_without_a_logger() -> None:
    """The access log asks before it builds anything expensive."""
    set_levels({"": logging.INFO, "access": logging.ERROR})
    assert not enabled("access", "info")
    assert enabled("access", "error")
    assert enabled("pool", "info")
    assert not enabled("pool", "debug")


def test_json_lines_carry_fields_and_exceptions() -> None:
    """One object for each event; the target loses the package's name."""
    stream = io.StringIO()
    set_up("json", {"": logging.INFO}, stream)
    logger = logging.getLogger("hostmesh.rbac")
    logger.debug("not wanted")
    logger.info("judged", extra={"fields": {"policy": "a/b", "n": 3}})
    try:
        int("boom")
    except ValueError:
        logger.exception("failed")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["scope"], first["message"], first["policy"], first["n"]) == ("rbac", "judged", "a/b", 3)
    assert second["level"] == "error"
    assert second["error"].startswith("ValueError(")
    assert "Traceback" in second["traceback"]


def test_a_worker_forwards_values() -> None:
    """Main renders; the worker hands over level, target, message and fields."""
    records: list[LogRecord] = []
    set_up_forwarding(records.append, {})
    logging.getLogger("hostmesh.proxy").warning("careful %d", 7, extra={"fields": {"k": "v"}})
    assert records == [LogRecord("warn", "proxy", "careful 7", (("k", "v"),))]
