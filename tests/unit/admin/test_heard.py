"""Asked on the destination's host, an explanation says what lies with the caller, as far as the log shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.admin.test_explain import GOOD, NOW, WEB, world

from hostmesh.admin.explain import explain
from hostmesh.admin.heard import Heard, newest, served_here, with_heard
from hostmesh.admin.parties import find_source, find_target
from hostmesh.admin.world import CapturedView, HostView
from hostmesh.model.workload import Workload
from hostmesh.telemetry.reasons import Reason

HERE = HostView("app2", (CapturedView("web", "prod", WEB, "web.service", "captured"),))
KNOWN = {
    "src.addr": "10.0.0.1:40000",
    "src.workload": "sleep",
    "src.identity": "spiffe://cluster.local/ns/prod/sa/sleep",
    "dst.workload": "web",
    "direction": "inbound",
}
EARLY = {"src.addr": "10.0.0.1:40000", "direction": "inbound", "error": "tls handshake error: something"}
PLAIN = {key: value for key, value in KNOWN.items() if key not in ("src.identity", "src.workload")}


def on_webs_host() -> tuple[Workload, tuple[Workload, ...]]:
    """Who calls, and who of this host is called."""
    seen = replace(world(*GOOD), host=HERE, certificates=None)
    target = find_target(seen, "web", "prod")
    caller = find_source(seen, "prod/sleep").workload
    assert target is not None
    assert caller is not None
    return caller, served_here(seen, target)


@pytest.mark.parametrize(
    ("line", "allowed", "reason", "said"),
    [
        (None, True, Reason.MUTUAL_TLS, "no connection of prod/sleep in the last minutes"),
        (None, True, Reason.MUTUAL_TLS, "on app1 `hostmesh explain` says more"),
        (Heard(NOW - 5, KNOWN), True, Reason.MUTUAL_TLS, "5 s ago, as spiffe://cluster.local/ns/prod/sa/sleep"),
        (Heard(NOW, PLAIN), True, Reason.NOT_CAPTURED, "in plaintext: app1 does not capture it"),
        (
            Heard(NOW, {**PLAIN, "error": "policy rejection"}, Reason.PLAINTEXT_REFUSED),
            False,
            Reason.NOT_CAPTURED,
            "in plaintext: app1 does not capture it",
        ),
        (Heard(NOW, EARLY, Reason.UNTRUSTED_ISSUER), False, Reason.UNTRUSTED_ISSUER, "failed: tls handshake error"),
        (
            Heard(NOW, {**KNOWN, "error": "refused"}, Reason.APPLICATION_REFUSED),
            False,
            Reason.APPLICATION_REFUSED,
            "failed: refused",
        ),
        (
            Heard(NOW, {**KNOWN, "error": "denied by a policy of then"}, Reason.POLICY_DENIED),
            True,
            Reason.MUTUAL_TLS,
            "ended so: denied by a policy of then",
        ),
    ],
)
def test_the_log_names_the_cause(line: Heard | None, allowed: bool, reason: Reason, said: str) -> None:
    """What the policies of now say counts more than what was logged of those of then."""
    caller, _ = on_webs_host()
    before = explain(replace(world(*GOOD), host=HERE, certificates=None), "prod/sleep", "web", 80, NOW)
    found = with_heard(before, line, caller, NOW)
    assert (found.allowed, found.reason) == (allowed, reason)
    assert said in found.steps[-1].text


@pytest.mark.parametrize(
    "other",
    [
        {**KNOWN, "src.addr": "10.0.0.9:1"},
        {**KNOWN, "src.addr": "nonsense"},
        {**KNOWN, "src.workload": "batch"},
        {**KNOWN, "dst.workload": "db"},
        {**KNOWN, "direction": "outbound"},
    ],
)
def test_lines_about_others_are_passed_over(other: dict[str, str]) -> None:
    """Another caller, another destination, another way."""
    caller, served = on_webs_host()
    assert newest([Heard(NOW, other), Heard(NOW - 1, EARLY)], caller, served) == Heard(NOW - 1, EARLY)


def test_plaintext_of_its_host_counts_only_if_the_caller_has_not_come_itself() -> None:
    """Hosts share their address: somebody else there may be outside the mesh."""
    caller, served = on_webs_host()
    plain, known = Heard(NOW, PLAIN), Heard(NOW - 60, KNOWN)
    assert newest([plain, known], caller, served) is known
    assert newest([plain], caller, served) is plain


def test_a_host_that_serves_nobody_of_them_has_no_say() -> None:
    """The caller's own host asks by a connection instead."""
    seen = world(*GOOD)
    target = find_target(seen, "web", "prod")
    assert target is not None
    assert served_here(seen, target) == ()
