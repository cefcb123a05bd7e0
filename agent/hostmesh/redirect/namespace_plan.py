"""Which rules capture a workload that has a network namespace to itself (Istio's in-pod redirection, as one table).

Whoever is inside is the workload, so nothing has to be looked up: a connection is the workload's because of the
listener it comes to, and nobody is told apart by marks. What the proxy sends is marked 0x539 as everywhere, and never
captured.

  outbound   what a process connects to outside goes to the outbound port on loopback; its own addresses do not.
  inbound    what arrives from outside goes to the plaintext inbound port; 15008 is where HBONE peers connect. Health
             probes are let through: the host sees to it that nobody else has their address (redirect/probes.py).
  guard      the redirected ports are reached by redirection only: a process that connects to them is reset.
  names      where it is asked for, questions that leave for port 53 go to the agent's port on loopback, as long as it
             answers (kernel/gate); else they go where they were meant to.
  leaving    the proxy's connections to the workload's own ports carry its number too, and must not leave.
  connecting, answering: where the workload sees its clients' addresses, its replies to them come back to the proxy.
"""

from __future__ import annotations

from collections.abc import Iterable

from hostmesh.kernel.gate import OPEN
from hostmesh.model.local import PROXY_MARK
from hostmesh.redirect.dns_plan import AFTER
from hostmesh.redirect.plan import GUARD_PRIORITY, NAT_PRIORITY, TABLE, ListenerPorts
from hostmesh.redirect.probes import SOURCES

Rule = tuple[str, str]
"""Text and comment."""

_OPEN = "released: what was captured before lives on"
_WORD = ((4, "ip"), (6, "ip6"))
_NEW = "tcp flags & (fin | syn | rst | ack) == syn"
_UNMARK = f"meta mark {OPEN:#x} meta mark set 0x0", "of questions"
_OURS = f"meta mark & 0xfff == {{ {PROXY_MARK:#x}, 0x111 }} return"


def namespace_rules(
    ports: ListenerPorts, excluded_ports: Iterable[int] = (), dns: int = 0, *, original_source: bool = False
) -> str:
    """The transaction that lays out the table, whatever was in it before.

    Args:
        ports: the proxy's listeners in the namespace.
        excluded_ports: never captured inbound.
        dns: where questions about names are answered, 0: nowhere.
        original_source: the workload sees its clients' addresses.
    """
    lines = _afresh()
    for chain, hook, rules in (
        ("outbound", f"type nat hook output priority {NAT_PRIORITY}", _outbound(ports, dns)),
        ("inbound", f"type nat hook prerouting priority {NAT_PRIORITY}", _inbound(ports, excluded_ports)),
        ("guard", f"type filter hook input priority {GUARD_PRIORITY}", _guard(ports)),
        ("leaving", f"type filter hook output priority {GUARD_PRIORITY}", _leaving()),
        *(_sources() if original_source else []),
        *([("after", f"type filter hook output priority {AFTER}", [_UNMARK])] if dns else []),
    ):
        lines.append(f"add chain inet {TABLE} {chain} {{ {hook}; policy accept; }}")
        lines += [f'add rule inet {TABLE} {chain} {rule} comment "{comment}"' for rule, comment in rules]
    return "\n".join(lines) + "\n"


def _sources() -> list[tuple[str, str, list[Rule]]]:
    """Where policy routing (kernel/source_routing) finds the mark that brings replies to clients' addresses back.

    On the host an accepted socket inherits it, which is a setting of the whole namespace; here it goes by the
    connection, as in a pod of Istio's.
    """
    to_the_workload = f"meta mark & 0xfff == {PROXY_MARK:#x} meta mark & 0xfffff000 != 0x0"
    remembered = f"ct direction reply ct mark & 0xfff == {PROXY_MARK:#x}"
    return [
        (
            "connecting",
            "type filter hook output priority mangle",
            [(f"{to_the_workload} {_NEW} ct mark set meta mark", "the proxy connects to the workload")],
        ),
        (
            "answering",
            "type route hook output priority mangle",
            [(f"{remembered} meta mark set ct mark", "the workload answers: back to the proxy")],
        ),
    ]


def no_rules() -> str:
    """The transaction after which nothing is captured in the namespace any more, and open connections live on.

    Chains for nat stay, and a rule that needs connections tracked: without them the kernel stops to translate what was
    redirected before, and its packets go nowhere.
    """
    lines = _afresh()
    for chain, hook, priority in (("outbound", "output", NAT_PRIORITY), ("inbound", "prerouting", NAT_PRIORITY)):
        lines.append(f"add chain inet {TABLE} {chain} {{ type nat hook {hook} priority {priority}; policy accept; }}")
    lines.append(f'add rule inet {TABLE} outbound ct status dnat return comment "{_OPEN}"')
    return "\n".join(lines) + "\n"


def _afresh() -> list[str]:
    # `add` first: deleting a table that is not there would be an error
    return [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"add table inet {TABLE}"]


def _outbound(ports: ListenerPorts, dns: int) -> list[Rule]:
    question = f"meta mark {OPEN:#x} meta l4proto {{ tcp, udp }} th dport 53 redirect to :{dns}"
    names = [(question, "the workload asks for a name"), ("tcp dport 53 return", "as it does while nobody answers")]
    return [
        (_OURS, "never captured: the proxy itself"),
        ("ip daddr 127.0.0.0/8 return", "never captured: loopback"),
        ("ip6 daddr ::1 return", "never captured: loopback"),
        ("fib daddr type local return", "never captured: the workload calls itself"),
        *(names if dns else []),
        (f"{_NEW} redirect to :{ports.outbound}", "the workload connects"),
    ]


def _inbound(ports: ListenerPorts, excluded: Iterable[int]) -> list[Rule]:
    never = ", ".join(map(str, sorted({*excluded, ports.outbound, ports.inbound_plaintext, ports.inbound})))
    return [
        ('iifname "lo" return', "never captured: the workload itself"),
        ("fib daddr type != local return", "forwarded, to no listener of this namespace"),
        (_OURS, "never captured: the proxy itself"),
        *((f"{word} saddr {SOURCES[family]} meta l4proto tcp return", "probes of the host") for family, word in _WORD),
        (f"tcp dport {{ {never} }} return", "never captured: the proxy's own ports, and excluded ones"),
        (f"{_NEW} redirect to :{ports.inbound_plaintext}", "connects to the workload"),
    ]


def _guard(ports: ListenerPorts) -> list[Rule]:
    redirected = f"tcp dport {{ {ports.outbound}, {ports.inbound_plaintext} }}"
    direct = f"{redirected} {_NEW} ct status & dnat == 0x0"
    return [(f"{direct} reject with tcp reset", "these ports are reached by capture only")]


def _leaving() -> list[Rule]:
    to_the_workload = f"meta mark & 0xfff == {PROXY_MARK:#x} meta mark & 0xfffff000 != 0x0"
    return [(f'oifname != "lo" {to_the_workload} {_NEW} reject with tcp reset', "to the workload, yet leaving it")]
