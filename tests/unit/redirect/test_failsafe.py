"""What a host must never lose, and what would take it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.failsafe import Facts, Way, lockouts, reserved
from hostmesh.redirect.subjects import CapturedHost, CapturedUnit, Exclusions, Intent, Reserved, Scope

FACTS = Facts(
    ssh=(Way(22, "/etc/ssh/sshd_config:3"), Way(2222, "ssh.socket")),
    session=Way(2222, "the ssh session from 10.0.0.9", ip_address("10.0.0.9")),
    away=(Way(53, "resolver", ip_address("10.0.0.2")), Way(15012, "the control plane", ip_address("fd00::1"))),
    agents=(998, 997),
)
WORKLOAD = LocalWorkload(1, "host", "prod", Identity("cluster.local", "prod", "host"), "")
HOST = Intent(host=CapturedHost(WORKLOAD))


def test_list() -> None:
    """Everything that was found, and what the operator adds."""
    assert reserved(FACTS, None, [9100], [ip_network("10.9.0.0/16")]) == Reserved(
        (22, 2222, 9100),
        ((ip_network("10.0.0.2/32"), 53), (ip_network("10.9.0.0/16"), 0), (ip_network("fd00::1/128"), 15012)),
        (997, 998),
    )
    assert reserved(FACTS, [2200], [], []).inbound_ports == (2200,)
    assert reserved(Facts(), None, [], []).inbound_ports == (22,)


def test_found_list_locks_nobody_out() -> None:
    """Whatever is captured."""
    assert lockouts(replace(HOST, reserved=reserved(FACTS, None, [], [])), FACTS) == ()
    assert lockouts(Intent((CapturedUnit(WORKLOAD, "app.slice"),), reserved=Reserved(())), FACTS) == ()


SSH = "ssh at port 2222 (ssh.socket) would be captured as prod/host; next: add 2222 to capture.ssh_ports of agent.yaml"
AWAY = (
    "10.0.0.2 port 53 (resolver) would be reached through the proxy only, as prod/host; "
    "next: add 10.0.0.2 to capture.excluded_outbound_cidrs of agent.yaml"
)


@pytest.mark.parametrize(
    ("scope", "kept", "complaints"),
    [
        (
            Scope(),
            Reserved((22,), ((ip_network("fd00::1/128"), 0),)),
            {SSH, AWAY, SSH.replace("ssh.socket", FACTS.session.source)},
        ),  # type: ignore[union-attr]
        (Scope(bypass_inbound=True), Reserved((22,), ((ip_network("fd00::1/128"), 0),)), {AWAY}),
        (
            Scope(
                Exclusions(networks=(ip_network("10.0.0.0/8"), ip_network("fd00::/8"))), Exclusions(ports=(22, 2222))
            ),
            Reserved(()),
            set(),
        ),
        (
            Scope(Exclusions(ports=(53, 15012)), Exclusions(networks=(ip_network("10.0.0.9/32"),))),
            Reserved((22,)),
            {SSH},
        ),
    ],
)
def test_what_the_operator_says_wrong_is_named(scope: Scope, kept: Reserved, complaints: set[str]) -> None:
    """Way, source and next step; the session by which somebody works is a way of its own."""
    assert set(lockouts(Intent(host=CapturedHost(WORKLOAD, scope), reserved=kept), FACTS)) == complaints
