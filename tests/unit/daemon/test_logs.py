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
    ("fields", "written"),
    [
        ('[["src.addr", "192.0.2.1:5"], ["bytes_sent", 3]]', {"src.addr": "192.0.2.1:5", "bytes_sent": 3}),
        ('[["nested", {"a": 1}]]', {"nested": "{'a': 1}"}),
        ("", {}),
        ("not JSON", {"unreadable": "not JSON"}),
        ("[1, 2]", {"unreadable": "[1, 2]"}),
    ],
)
def test_what_a_worker_logged_is_written_whatever_it_is(
    capsys: pytest.CaptureFixture[str], fields: str, written: dict[str, object]
) -> None:
    """A worker is not trusted: nonsense is shown, and ends nothing."""
    record = pb.LogRecord(level="info", target="access", message="connection complete", fields=fields)
    LogSink("json", "info").write_batch(pb.LogBatch(records=[record]))
    line = json.loads(capsys.readouterr().err)
    assert {key: value for key, value in line.items() if key not in ("level", "time", "scope", "message")} == written
    assert line["message"] == "connection complete"


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
