"""The plan of the rules: what it says, and what it must never say."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.plan import FIXED_SETS, CapturedUnit, ListenerPorts, Ruleset, compile_intent, plan, unit_text
from hostmesh.redirect.subjects import Exclusions, Intent, Probe, Scope, Sockets

GUARD = ("arriving", "proxied", "listened")


def captured(number: int, cgroup: str, name: str = "web") -> CapturedUnit:
    identity = Identity("cluster.local", "prod", name)
    return CapturedUnit(LocalWorkload(number, name, "prod", identity, cgroup.rpartition("/")[2]), cgroup)


WEB = captured(1, "system.slice/web.service")
DEEP = captured(2, "system.slice/system-app.slice/app@1.service", "app")


def rules(ruleset: Ruleset, chain: str) -> list[str]:
    prefix = f"add rule inet hostmesh {chain} "
    return [line.removeprefix(prefix) for line in ruleset.rules.splitlines() if line.startswith(prefix)]


def test_chains_come_before_iptables() -> None:
    """At -100 the chain registered last wins; at -105 ours does, whoever came first."""
    text = plan([WEB]).rules
    assert "chain inet hostmesh outbound { type nat hook output priority -105; policy accept; }" in text
    assert "chain inet hostmesh inbound { type nat hook prerouting priority -105; policy accept; }" in text


def test_exemptions_come_before_captures() -> None:
    """In both directions the first rules return what is never captured."""
    ruleset = plan([WEB, DEEP])
    for chain, captures in (("outbound", 3), ("strangers", 2), ("inbound", 3)):
        kinds = ["redirect" in rule for rule in rules(ruleset, chain) if "jump" not in rule]
        assert kinds == sorted(kinds)
        assert kinds.count(True) == captures
    assert [re.split(" return| comment", rule)[0] for rule in rules(ruleset, "outbound")[:4]] == [
        "meta mark & 0xfff == 0x539 meta mark & 0xfffff000 == 0x0 goto strangers",
        "meta mark & 0xfff == { 0x539, 0x111 }",
        "ip daddr 127.0.0.0/8",
        "ip6 daddr ::1",
    ]


def test_only_new_connections_are_captured() -> None:
    """Every redirect asks for a bare SYN: sessions older than the rules live on."""
    ruleset = plan([WEB, DEEP])
    captures = [line for line in ruleset.rules.splitlines() if " redirect to " in line]
    assert captures
    assert all("tcp flags & (fin | syn | rst | ack) == syn meta mark set" in line for line in captures)


def test_ports_are_settings() -> None:
    """Listeners and sshd's real ports; the listeners themselves are never captured inbound."""
    ruleset = plan([WEB], ListenerPorts(1, 6, 8), excluded_ports=[2222, 22])
    assert any("redirect to :1 " in rule for rule in rules(ruleset, "outbound"))
    assert any("redirect to :6 " in rule for rule in rules(ruleset, "inbound"))
    assert any(rule.startswith("tcp dport { 1, 6, 8, 22, 2222 } return") for rule in rules(ruleset, "inbound"))
    assert rules(ruleset, "arriving")[1].startswith("tcp dport { 1, 6 } ")


def test_guard_ends_in_resets() -> None:
    """Who may listen to the proxy returns; nobody is left to a look of the kernel's own: it might find somebody new."""
    ruleset = plan([WEB, DEEP])
    reset, found = "reject with tcp reset", "socket transparent { 0, 1 } goto"
    verdicts = re.compile(rf"(return|{reset}|{re.escape(found)} \w+|map @\w+) comment")
    said = {name: [match[1] for rule in rules(ruleset, name) for match in verdicts.finditer(rule)] for name in GUARD}
    assert said == {
        "arriving": [
            "return",
            reset,
            *("map @listening", "map @user_ports"),
            *(f"{found} proxied", reset),
            *["return"] * 3,
            *(f"{found} listened", reset),
        ],
        "proxied": [*["return"] * 3, reset, "return", reset],
        "listened": [reset, reset],
    }
    for name, used in (("proxied", "@owners_"), ("listened", "map @workloads_")):
        assert [f"{used}{level}" in rule for rule, level in zip(rules(ruleset, name), (3, 2), strict=False)] == [
            True
        ] * 2


def test_packets_of_running_connections_meet_one_rule() -> None:
    """Every packet of the host passes the guard and `leaving`; both judge beginnings of connections only."""
    ruleset = plan([WEB, DEEP])
    for chain in ("arriving", "leaving"):
        first, *others = rules(ruleset, chain)
        assert first.startswith("tcp flags & syn == 0x0 return")
        judged = [rule for rule in others if not re.match(r"(ip6? daddr|tcp dport) [^@]* return", rule)]
        assert all("tcp flags & (fin | syn | rst | ack) ==" in rule for rule in judged)


def test_deepest_level_first() -> None:
    """A cgroup inside another's is the more specific; level 2 is always there."""
    assert plan([WEB, DEEP]).levels == (3, 2)
    assert plan([DEEP]).levels == (3, 2)
    assert plan([]).levels == (2,)
    assert plan([WEB, DEEP]).sets[:4] == ("workloads_3", "owners_3", "workloads_2", "owners_2")


def test_enrolling_at_a_level_in_use_changes_no_rules() -> None:
    """Only elements come and go with workloads of the usual kind."""
    assert plan([]).rules == plan([WEB]).rules
    assert plan([]).digest == plan([WEB]).digest
    assert plan([WEB]).digest != plan([WEB, DEEP]).digest


def test_unit_text_names_the_workload() -> None:
    """Both elements, readable by an operator; on a hybrid host with the path as nft looks for it."""
    ruleset = plan([WEB], cgroup_prefix="unified")
    assert unit_text(ruleset, WEB).splitlines()[1:] == [
        'add element inet hostmesh workloads_2 { "unified/system.slice/web.service" comment "prod/web" : 0x1000 }',
        'add element inet hostmesh owners_2 { "unified/system.slice/web.service" . 0x1539 comment "prod/web" }',
    ]


def test_elements_as_the_kernel_holds_them() -> None:
    """Ids are 64 bits, marks 32, both in the byte order of the host."""
    assert WEB.map_element(77) == (struct.pack("=Q", 77), struct.pack("=I", 0x1000))
    assert WEB.set_element(77) == (struct.pack("=QI", 77, 0x1539), b"")


def test_long_names_fit_into_a_comment() -> None:
    """Nft takes 128 characters."""
    unit = captured(1, "system.slice/a.service", "x" * 253)
    comment = unit_text(plan([unit]), unit).split('comment "')[1].split('"')[0]
    assert len(comment) == 120


@pytest.mark.parametrize(
    ("units", "complaint"),
    [
        ([WEB, captured(1, "system.slice/b.service")], "same number 1"),
        ([WEB, captured(2, "system.slice/web.service")], "same cgroup system.slice/web.service"),
        ([captured(1, "")], "cannot be captured by the cgroup ''"),
        ([captured(1, 'a"b/c')], "cannot be captured"),
    ],
)
def test_impossible_plans(units: list[CapturedUnit], complaint: str) -> None:
    """Two workloads must never share a mark or a cgroup, and the root cgroup is everybody's."""
    with pytest.raises(ValueError, match=complaint):
        plan(units)


@given(st.lists(st.tuples(st.integers(1, 0xFFFFF), st.integers(1, 5)), unique_by=lambda pair: pair[0], max_size=8))
def test_plans_do_not_depend_on_order(pairs: list[tuple[int, int]]) -> None:
    """The same workloads give the same plan, so that a restart of the agent changes nothing."""
    units = [captured(number, "/".join(["a.slice"] * (depth - 1) + [f"u{number}.service"])) for number, depth in pairs]
    assert plan(units) == plan(reversed(units))
    assert len(set(plan(units).sets)) == len(FIXED_SETS) + 2 * len({2, *(depth for _, depth in pairs)})


@pytest.mark.parametrize(
    ("scope", "ports"),
    [
        (Scope(), ["80", "81"]),
        (Scope(outbound=Exclusions(ports=(5432,), networks=(ip_network("10.0.0.0/8"),))), ["80", "81"]),
        (Scope(inbound=Exclusions(ports=(80,))), ["81"]),
        (Scope(probes=(Probe(80, (ip_network("10.0.0.1"),)),)), ["81"]),
        (Scope(inbound=Exclusions(networks=(ip_network("10.0.0.0/8"),))), []),
        (Scope(bypass_inbound=True), []),
    ],
)
def test_where_a_connection_has_just_ended_the_port_decides(scope: Scope, ports: list[str]) -> None:
    """Of a unit that captures all who come to it; what it excludes on its way out is another matter."""
    unit = replace(captured(1, "system.slice/web.service"), scope=scope)
    ruleset = compile_intent(Intent((unit,), listening={unit.workload.key: (80, 81)}))
    assert [element.text for element in ruleset.fixed["listening"]] == ports


SYSTEMD = Sockets((8080, 8081), ("init.scope", "system.slice/web.socket"))


def test_sockets_of_systemd_are_known_by_port_and_cgroup() -> None:
    """By the port whoever connects is captured; to the listener only the proxy comes, marked as the one unit."""
    ruleset = plan([replace(WEB, sockets=SYSTEMD), DEEP])
    assert [element.text for element in ruleset.fixed["user_ports"]] == ["8080", "8081"]
    assert [element.text for element in ruleset.fixed["own_ports"]] == ["8080 . 0x1539", "8081 . 0x1539"]
    assert ruleset.sockets_text(*next(ruleset.sockets)) == (
        'add element inet hostmesh sockets_1 { "init.scope" . 8080 comment "prod/web" }\n'
        'add element inet hostmesh sockets_1 { "init.scope" . 8081 comment "prod/web" }\n'
    )
    assert {"sockets_1", "sockets_2"} <= set(ruleset.sets)
    made = "socket cgroupv2 level 1 . tcp dport @sockets_1"
    guard = [rule.split(" comment")[0] for name in GUARD for rule in rules(ruleset, name) if made in rule]
    assert [("own_ports" in rule, rule.endswith(" return"), "reject" in rule) for rule in guard] == [
        (True, True, False),
        (False, False, True),
    ]


def test_what_is_excluded_of_sockets_is_let_through() -> None:
    """At these ports only, and past the guard only to the listener that systemd has made."""
    ruleset = plan([replace(WEB, sockets=SYSTEMD, scope=Scope(inbound=Exclusions(ports=(8081,))))])
    assert [element.text for element in ruleset.fixed["user_ports"]] == ["8080"]
    at_these = "tcp dport { 8080, 8081 } tcp dport { 8081 } return"
    assert [at_these in rule for rule in rules(ruleset, "inbound")].count(True) == 1
    past = [rule for rule in rules(ruleset, "listened") if at_these in rule]
    assert [rule.partition(" tcp dport {")[0] for rule in past] == [
        "socket cgroupv2 level 1 . tcp dport @sockets_1",
        "socket cgroupv2 level 2 . tcp dport @sockets_2",
    ]


def test_a_port_of_two_socket_units_is_refused() -> None:
    """The map from ports to marks has one value for each."""
    with pytest.raises(ValueError, match="two workloads have the same port of a socket unit 8080"):
        plan([replace(WEB, sockets=SYSTEMD), replace(DEEP, sockets=SYSTEMD)])
