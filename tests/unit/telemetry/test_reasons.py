"""Every failure has a code, and every code a page."""

from __future__ import annotations

import errno
import inspect
from pathlib import Path

import pytest

from hostmesh.proxy import failure as failures
from hostmesh.proxy.failure import Failure
from hostmesh.telemetry.reasons import Reason, reason_of

PAGES = Path(__file__).parents[3] / "docs" / "reasons"

TEXTS = {
    "connection closed due to policy rejection: allow policies exist, but none allowed": Reason.POLICY_NOT_ALLOWED,
    "connection closed due to policy rejection: explicitly denied by: prod/a": Reason.POLICY_DENIED,
    "connection closed due to policy rejection: explicitly denied by: istio-system/istio_converted_static_strict": (
        Reason.PLAINTEXT_REFUSED
    ),
    "connection closed due to policy rejection: explicitly denied by: prod/network_policy_a": Reason.NETWORK_POLICY,
    "connection closed due to policy change": Reason.POLICY_CHANGED,
    "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: no": Reason.HBONE_BLOCKED,
    "no healthy upstream: 240.240.0.1:80": Reason.NO_HEALTHY_ENDPOINT,
    "unknown waypoint: waypoint prod/gate not found": Reason.WAYPOINT_UNKNOWN,
    "unknown waypoint: waypoint prod/gate has no healthy endpoint": Reason.WAYPOINT_UNHEALTHY,
    "identity error: no certificate came for spiffe://cluster.local/ns/prod/sa/web": Reason.CERTIFICATE_MISSING,
    "io error: the peer's certificate has expired": Reason.CERTIFICATE_EXPIRED,
    "io error: the peer's certificate is not yet valid, or a clock is wrong": Reason.CLOCK_SKEW,
    "io error: the peer refuses our certificate: unknown issuer": Reason.UNTRUSTED_ISSUER,
    "io error: identity verification error: peer did not present the expected SAN (spiffe://a/ns/b/sa/c), got "
    "spiffe://a/ns/b/sa/d": Reason.IDENTITY_MISMATCH,
    "io error: identity verification error: peer did not present the expected SAN (spiffe://a/ns/b/sa/c), got "
    "spiffe://z/ns/b/sa/c": Reason.TRUST_DOMAIN_MISMATCH,
    "tls handshake error: identity verification error: peer is not of trust domain a: spiffe://z/ns/b/sa/c": (
        Reason.TRUST_DOMAIN_MISMATCH
    ),
    "tls handshake error: closed by peer before its ClientHello": Reason.TLS_HANDSHAKE,
    "http status: 401 Unauthorized": Reason.PEER_DECLINED,
    "http status: 401 Unauthorized, the peer says NETWORK_POLICY": Reason.NETWORK_POLICY,
    "http status: 401 Unauthorized, the peer says MUTUAL_TLS": Reason.PEER_DECLINED,
    "http status: 401 Unauthorized, the peer says NONSENSE": Reason.PEER_DECLINED,
    "no healthy upstream: 240.240.0.1:80, prod/web has no endpoints": Reason.NO_ENDPOINT,
    "connection failed: Connection refused (os error 111)": Reason.APPLICATION_REFUSED,
    "attempted recursive call to ourselves": Reason.RECURSIVE_CALL,
    "SOCKS5 is for captured workloads: the caller is none": Reason.NOT_CAPTURED,
    "prod/web is on network 'east', and its subjectAltNames do not say who may answer": Reason.NETWORK_UNREACHABLE,
    "dns lookup: no such name": Reason.NO_ADDRESS,
    "expected method CONNECT, got GET": Reason.NOT_HBONE,
    "expected method CONNECT, got clock": Reason.NOT_HBONE,
    "unknown network gateway: network gateway prod/east not found": Reason.NETWORK_UNREACHABLE,
    "failed to fetch information about local workload: sleep.prod (sleep)": Reason.SOURCE_UNKNOWN,
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_has_its_code(text: str) -> None:
    """Those of hostmesh and of ztunnel."""
    assert reason_of(text) is TEXTS[text]


@pytest.mark.parametrize("name", ["clock", "expired", "revoked", "tls", "certificate", "unknownissuer", "clienthello"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no healthy upstream: 10.9.9.9:80, default/{} has no endpoints", Reason.NO_ENDPOINT),
        ("no healthy upstream: 10.9.9.9:81, no endpoint of default/{} serves port 81", Reason.PORT_UNKNOWN),
        ("unknown waypoint: default/{}", Reason.WAYPOINT_UNKNOWN),
        ("no service or workload for hostname: {}", Reason.NAME_UNKNOWN),
        ("no ip addresses were resolved for workload: {}.example: no such name", Reason.NO_ADDRESS),
        ("dns lookup: {}.example: no such name", Reason.NO_ADDRESS),
        ("failed to fetch information about local workload: default/{}", Reason.SOURCE_UNKNOWN),
        (
            "io error: identity verification error: expected spiffe://a/ns/{0}/sa/{0}, got spiffe://a/ns/{0}/sa/x",
            Reason.IDENTITY_MISMATCH,
        ),
        ("identity error: no certificate came for spiffe://a/ns/{0}/sa/{0}", Reason.CERTIFICATE_MISSING),
    ],
)
def test_a_name_is_not_read_as_a_cause(text: str, reason: Reason, name: str) -> None:
    """A service may be called `clock`: what is the matter with it is not the time."""
    assert reason_of(text.format(name)) is reason


def test_a_refusal_of_15008_is_the_agents() -> None:
    """The text is the same for every port."""
    refused = failures.hbone_connect(errno.ECONNREFUSED, 15008)
    assert reason_of(refused.error, refused.flags, "10.0.0.2:15008") is Reason.HBONE_REFUSED
    assert reason_of(refused.error, refused.flags, "10.0.0.2:80") is Reason.CONNECT_FAILED


def test_no_failure_is_without_a_code() -> None:
    """Constants and constructors of the proxy's failures, whatever they are made with."""
    made = [one for _, one in inspect.getmembers(failures) if isinstance(one, Failure) and one.error]
    samples = {
        "reason": "something",
        "number": errno.ECONNRESET,
        "port": 15008,
        "upwards": True,
        "status": 503,
        "stated": "POLICY_DENIED",
        "policies": ("a/b",),
    }
    for _, function in inspect.getmembers(failures, inspect.isfunction):
        if function.__module__ == failures.__name__ and not function.__name__.startswith("_"):
            names = inspect.signature(function).parameters
            objects = {
                "address": "10.0.0.2:15008",
                "objection": failures.CERTIFICATE_REVOKED,
                "error": ConnectionResetError(),
            }
            made.append(function(**{name: {**samples, **objects}[name] for name in names}))
    assert len(made) > 15
    assert [one.error for one in made if reason_of(one.error, one.flags) is Reason.OTHER] == []


def test_every_reason_has_a_page_and_every_page_a_reason() -> None:
    """The page begins with the code, and says the sentence that logs and commands say."""
    assert {page.stem for page in PAGES.glob("*.md")} == {*Reason.__members__, "README"}
    for reason in Reason:
        text = (PAGES / f"{reason.name}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {reason.name}\n\n{reason.value}\n")
        assert "\n## " in text, f"{reason.name}: what to do about it"


def test_the_list_of_reasons_is_complete() -> None:
    """One line for each, with its sentence."""
    text = (PAGES / "README.md").read_text(encoding="utf-8")
    for reason in Reason:
        assert f"| [{reason.name}]({reason.name}.md) | {reason.value} |" in text
