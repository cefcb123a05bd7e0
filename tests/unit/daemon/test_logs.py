"""Records of workers as main writes them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from hostmesh.daemon.logs import LogSink, mesh_fields
from hostmesh.telemetry.records import LogRecord
from hostmesh.wire.proto import worker_pb2 as pb


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    root.handlers[:] = before


@pytest.mark.parametrize(
    ("record", "written"),
    [
        (
            '["info", "access", "done", [["src.addr", "192.0.2.1:5"], ["bytes_sent", 3]]]',
            {"src.addr": "192.0.2.1:5", "bytes_sent": 3},
        ),
        ('["info", "access", "done", [["nested", {"a": 1}], ["none", null]]]', {"nested": "{'a': 1}", "none": "None"}),
        ('["info", "access", "done", []]', {}),
        ("1", {"unreadable": "1"}),
        ('["info", "access"]', {"unreadable": "['info', 'access']"}),
        ('["info", "access", "done", [1, 2]]', {"unreadable": "['info', 'access', 'done', [1, 2]]"}),
    ],
)
def test_what_a_worker_logged_is_written_whatever_it_is(
    capsys: pytest.CaptureFixture[str], record: str, written: dict[str, object]
) -> None:
    """A worker is not trusted: nonsense is shown, and ends nothing, the records beside it least of all."""
    good = '["warn", "proxy", "beside it", []]'
    LogSink("json", "info").write_batch(pb.LogBatch(records=f"[{record}, {good}]".encode()))
    line, other = map(json.loads, capsys.readouterr().err.splitlines())
    assert {key: value for key, value in line.items() if key not in ("level", "time", "scope", "message")} == written
    assert (other["level"], other["scope"], other["message"]) == ("warn", "proxy", "beside it")


@pytest.mark.parametrize("batch", [b"", b"not JSON", b"3", b"\xff", b"[" * 100_000])
def test_a_batch_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str], batch: bytes) -> None:
    """It is shown, as far as a reader could bear it."""
    LogSink("json", "info").write_batch(pb.LogBatch(records=batch))
    [line] = map(json.loads, capsys.readouterr().err.splitlines())
    assert line["message"] == "a worker's record cannot be read"
    assert len(line["unreadable"]) <= 512


@pytest.mark.parametrize(
    ("direction", "own", "other"), [("outbound", "prod/sleep", "prod/web"), ("inbound", "prod/web", "prod/sleep")]
)
def test_the_journal_is_filtered_by_workload_and_reason(direction: str, own: str, other: str) -> None:
    """The workload is this host's own end, whichever way the connection goes."""
    ends = (("src.workload", "sleep"), ("src.namespace", "prod"), ("dst.workload", "web"), ("dst.namespace", "prod"))
    fields = (*ends, ("direction", direction), ("reason", "POLICY_DENIED"))
    assert mesh_fields(LogRecord("error", "access", "connection complete", fields)) == {
        "MESH_WORKLOAD": own,
        "MESH_PEER": other,
        "MESH_DIRECTION": direction,
        "MESH_REASON": "POLICY_DENIED",
    }
    assert mesh_fields(LogRecord("info", "xds", "connected")) == {}


@pytest.mark.parametrize("separator", ["\r", "\x0b", "\x1e", "\x85", "\u2028"])
def test_a_line_that_the_worker_has_rendered_stays_one_line(capsys: pytest.CaptureFixture[str], separator: str) -> None:
    """Nobody forges another record with what some reader takes for a line break."""
    rendered = f"info\taccess\tdone\tsrc.addr=1.2.3.4:5{separator}error\nwarn\tproxy\tbeside it".encode()
    LogSink("plain", "info").write_batch(pb.LogBatch(records=rendered))
    line, other = capsys.readouterr().err.splitlines()
    assert line.split("\t")[1:] == ["info", "access", "done", "src.addr=1.2.3.4:5 error"]
    assert other.split("\t")[1:] == ["warn", "proxy", "beside it"]


@pytest.mark.parametrize("batch", [b"", b"nonsense", b"\xff\xfe", b"\t\t\t"])
def test_lines_that_are_none_are_shown(capsys: pytest.CaptureFixture[str], batch: bytes) -> None:
    """As they are, behind the time; they end nothing."""
    LogSink("plain", "info").write_batch(pb.LogBatch(records=batch))
    [line] = capsys.readouterr().err.splitlines()
    assert line.split("\t", 1)[1] == batch.decode(errors="backslashreplace")
