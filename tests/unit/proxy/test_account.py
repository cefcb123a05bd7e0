"""An account is opened once and closed once."""

from __future__ import annotations

from tests.support.proxy import Mesh

from hostmesh.proxy.account import Account
from hostmesh.proxy.failure import Failure
from hostmesh.telemetry.access_log import End, Parties
from hostmesh.telemetry.labels import traffic_labels
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
