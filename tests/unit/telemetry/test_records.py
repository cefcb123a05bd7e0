"""Log records in both renderings."""

from __future__ import annotations

import json

from hostmesh.telemetry.records import LogRecord, render_json, render_plain

NOW = 1_782_000_000.000001
RECORD = LogRecord(
    "info",
    "access",
    "connection complete",
    (("src.addr", "10.0.0.1:40000"), ("src.workload", 'a "b"'), ("bytes_sent", 11), ("duration", "3ms")),
)


def test_plain_quotes_strings_and_leaves_addresses_and_numbers_bare() -> None:
    """Tab separated; field values as other ambient proxies print them."""
    assert render_plain(RECORD, NOW).split("\t") == [
        "2026-06-21T00:00:00.000001Z",
        "info",
        "access",
        "connection complete",
        'src.addr=10.0.0.1:40000 src.workload="a \\"b\\"" bytes_sent=11 duration="3ms"',
    ]


def test_plain_without_fields_has_no_trailing_tab() -> None:
    """Nothing follows the message."""
    assert render_plain(LogRecord("warn", "pool", "hm"), NOW).endswith("\twarn\tpool\thm")


def test_a_value_cannot_forge_a_second_line_or_field() -> None:
    """Quoted strings are escaped, bare ones lose their white space."""
    forged = LogRecord("info", "access", "m", (("dst.hbone_addr", "a:1\n2 error=x"), ("error", "x\ny")))
    line = render_plain(forged, NOW)
    assert "\n" not in line
    assert line.endswith('dst.hbone_addr=a:12error=x error="x\\ny"')


def test_json_is_one_object_in_order() -> None:
    """Level, time, scope and message come first; numbers are numbers."""
    text = render_json(RECORD, NOW)
    assert list(json.loads(text)) == [
        "level",
        "time",
        "scope",
        "message",
        "src.addr",
        "src.workload",
        "bytes_sent",
        "duration",
    ]
    assert json.loads(text)["bytes_sent"] == 11
