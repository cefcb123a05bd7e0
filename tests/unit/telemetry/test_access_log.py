"""The access log's fields, in order, for every kind of end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.identity import Identity
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.telemetry.access_log import Completion, End, Outcome, Parties, early_failure
from hostmesh.telemetry.records import LogRecord, render_plain

CLIENT = Workload("u1", "client-1", "default", service_account="client")
ECHO = Workload("u2", "echo-1", "default", service_account="echo")
SERVICE = Service("echo", "default", "echo.default.svc.cluster.local")
HBONE = Parties.of("outbound", End(CLIENT, CLIENT.identity), End(ECHO, ECHO.identity), SERVICE)


def test_an_hbone_connection_has_all_fields_in_order() -> None:
    """As other ambient proxies write it, so that one query reads both."""
    record = Completion(HBONE, "10.0.0.1:40000", "10.0.0.2:15008", "10.0.0.2:8080", Outcome(11, 22, 0.0039))
    assert render_plain(record, 0.0) == (
        "1970-01-01T00:00:00.000000Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:40000 "
        'src.workload="client-1" src.namespace="default" src.identity="spiffe://cluster.local/ns/default/sa/client" '
        'src.cluster="Kubernetes" dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:8080 '
        'dst.service="echo.default.svc.cluster.local" dst.workload="echo-1" dst.namespace="default" '
        'dst.identity="spiffe://cluster.local/ns/default/sa/echo" dst.cluster="Kubernetes" direction="outbound" '
        'bytes_sent=11 bytes_recv=22 duration="3ms"'
    )


def test_a_failure_adds_error_flags_and_reason_and_is_an_error() -> None:
    """Success has none of the fields."""
    outcome = Outcome(0, 0, 0.0, "connection failed: Connection refused (os error 111)", "CONNECT")
    record = Completion(HBONE, "1.2.3.4:5", "6.7.8.9:15008", "x:1", outcome)
    assert record.level == "error"
    assert record.fields[-3:] == (
        ("error", outcome.error),
        ("response_flags", "CONNECT"),
        ("reason", "APPLICATION_REFUSED"),
    )


def test_unknown_ends_leave_their_fields_out() -> None:
    """Plain TCP to a stranger: no identities, no workload, no authority."""
    parties = Parties.of("outbound", End(CLIENT), End(), None)
    record = Completion(parties, "1.2.3.4:5", "6.7.8.9:80", "", Outcome(1, 2, 0.0))
    assert [key for key, _ in record.fields] == [
        "src.addr",
        "src.workload",
        "src.namespace",
        "src.cluster",
        "dst.addr",
        "direction",
        "bytes_sent",
        "bytes_recv",
        "duration",
    ]


def test_a_peer_that_only_baggage_describes_is_named() -> None:
    """The control plane does not know it, its certificate does."""
    identity = Identity("cluster.local", "far", "away")
    end = End(None, identity, "cart", "far", "dc2")
    assert end.fields("src") == (
        ("src.workload", "cart"),
        ("src.namespace", "far"),
        ("src.identity", str(identity)),
        ("src.cluster", "dc2"),
    )


def test_early_failures_say_only_what_is_known() -> None:
    """Nothing about workloads: the connection was refused before."""
    record = early_failure("1.2.3.4:5", "", "inbound", "tls handshake error: no")
    assert (record.level, record.message) == ("warn", "connection failed")
    assert record.fields == (
        ("src.addr", "1.2.3.4:5"),
        ("direction", "inbound"),
        ("error", "tls handshake error: no"),
        ("reason", "TLS_HANDSHAKE"),
    )


@given(
    st.builds(
        Completion,
        st.sampled_from([HBONE, Parties.of("inbound", End(), End(ECHO), None)]),
        st.just("[2001:db8::1]:40000"),
        st.just("10.0.0.2:15008"),
        st.sampled_from(["", "echo.default.svc.cluster.local:80"]),
        st.builds(
            Outcome,
            st.integers(0, 2**63),
            st.integers(0, 2**63),
            st.floats(0.0, 1e6),
            st.sampled_from(["", 'said "no"\n']),
            st.sampled_from(["-", "DENY"]),
        ),
    )
)
def test_the_text_is_what_the_fields_render_to(completion: Completion) -> None:
    """It is put together from parts that are rendered once for a route."""
    record = LogRecord(completion.level, completion.target, completion.message, completion.fields)
    assert completion.text() == record.text()
