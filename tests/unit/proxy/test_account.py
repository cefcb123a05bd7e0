"""An account is opened once and closed once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.proxy import Mesh, echo

from hostmesh.proxy.account import Account
from hostmesh.proxy.failure import Failure
from hostmesh.telemetry.access_log import End, Parties
from hostmesh.telemetry.labels import traffic_labels
from hostmesh.telemetry.logs import parse_levels, set_levels
from hostmesh.telemetry.metrics import CLOSED, OPENED


def test_an_account_is_closed_once() -> None:
    """Two owners of one connection may both report its end; the first one counts."""
    with Mesh() as mesh:
        context = mesh.client.server._context
        traffic = context.metrics.traffic(traffic_labels("source", (None, None), (None, None), None, "unknown"))
        account = Account(context, traffic, Parties.of("outbound", End(), End(), None), "1.2.3.4:5", "6.7.8.9:10")

        def end() -> None:
            account.close(1, 2, Failure("first", "CONNECT"))
            account.close(3, 4, None)

        mesh.client.call(end)
        (record,) = mesh.client.main.wait_logs(1)
        assert dict(record.fields)["error"] == "first"
        assert [mesh.client.total(metric) for metric in (OPENED, CLOSED)] == [1, 1]


@pytest.fixture
def verbose() -> Iterator[None]:
    set_levels(parse_levels("access=debug"))
    yield
    set_levels(parse_levels("access=info"))


def test_an_opened_connection_is_told_to_who_asks_for_it(verbose: None) -> None:
    """At debug, at both ends, with the fields of the completion up to the direction."""
    with Mesh() as mesh, mesh.app(echo) as app:
        set_levels(parse_levels("access=debug"))
        with mesh.connect(app.port) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        for host in (mesh.client, mesh.server):
            opened, complete = host.main.wait_logs(2)
            assert (opened.level, opened.message) == ("debug", "connection opened")
            assert opened.fields == complete.fields[: len(opened.fields)]
            assert opened.fields[-1][0] == "direction"
