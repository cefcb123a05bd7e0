"""Which rules bring questions about names to the agent: one nft table, computed (nft(8)).

  plain      what goes to 127.0.15.53 port 53 goes to the agent's port: resolv.conf cannot name a port.
  captured   what a captured unit or user asks any name server, a stub on loopback included, goes to an address of
             loopback that is the workload's own, 127.64.0.0 + its number: so the kernel says who is asking. Over IPv6
             it goes to ::1, and counts as the host's.
  own        the agent's own questions have conntrack's zone 1: a port that a workload has just asked from has an
             entry there that would send the agent's question back to the agent.

  after      marks go again before anybody else sees them.

Questions are captured only while the agent answers: a table that lives as long as its socket (`kernel/gate`) marks
them, and without the mark they go where they were meant to, over TCP past the capture of connections too.

Nothing here is needed for ordinary names while nobody is captured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import PurePosixPath

from hostmesh.kernel.gate import OPEN
from hostmesh.model.local import PROXY_MARK, LocalWorkload

TABLE = "hostmesh_dns"
PLAIN = IPv4Address("127.0.15.53")
PRIORITY = -106
"""Before capture (-105): a question over TCP is one about names first."""
AFTER = -90
"""Every translation is done, and nobody routes by the mark."""
_FIRST = IPv4Address("127.64.0.0")
_OURS = f"meta mark & 0xfff == {{ {PROXY_MARK:#x}, 0x111 }} return"
_QUESTION = "meta l4proto { tcp, udp } th dport 53"
_ANSWERED = f"meta mark {OPEN:#x} "
_PAST = "tcp dport 53 meta mark 0x0"
_PASSED = 0x111
"""What is never captured."""


@dataclass(frozen=True, slots=True)
class Asker:
    """A unit whose questions are captured, and its cgroup; or a user, and the number."""

    workload: LocalWorkload
    cgroup: str = ""
    uid: int | None = None

    @property
    def level(self) -> int:
        """Depth of the cgroup below the root."""
        return len(PurePosixPath(self.cgroup).parts)


@dataclass(frozen=True, slots=True)
class DnsRules:
    """The table without elements; those come and go with units, which are the `askers` here."""

    rules: str
    askers: tuple[Asker, ...]
    cgroup_prefix: str

    def elements_text(self, asker: Asker) -> str:
        """The commands that capture a unit's questions; its cgroup must exist when they run."""
        path = PurePosixPath(self.cgroup_prefix, asker.cgroup)
        address = address_of(asker.workload)
        return (
            f'add element inet {TABLE} askers_{asker.level} {{ "{path}" : {address} }}\n'
            f'add element inet {TABLE} askers6_{asker.level} {{ "{path}" }}\n'
        )


def address_of(workload: LocalWorkload) -> IPv4Address:
    """Where the agent answers a workload; the number has 20 bits, as has the range."""
    return _FIRST + workload.number


def dns_plan(askers: Iterable[Asker], port: int, *, plain: bool = False, cgroup_prefix: str = "") -> DnsRules:
    """Compute the table.

    Args:
        askers: captured units, running or not, and users.
        port: where the agent answers.
        plain: whether it answers at 127.0.15.53 too.
        cgroup_prefix: path of the cgroup v2 hierarchy below /sys/fs/cgroup.
    """
    everybody = sorted(askers, key=lambda asker: asker.workload.number)
    captured = tuple(asker for asker in everybody if asker.uid is None)
    users = [asker for asker in everybody if asker.uid is not None]
    levels = sorted({asker.level for asker in captured}, reverse=True)
    output = [(_OURS, "never captured: the agent itself")]
    if plain:
        output.append((f"ip daddr {PLAIN} {_QUESTION} redirect to :{port}", "resolv.conf cannot name a port"))
    for level in levels:
        unit = f"socket cgroupv2 level {level}"
        output += [
            (f"{_ANSWERED}meta nfproto ipv4 {_QUESTION} dnat ip to {unit} map @askers_{level} : {port}", "a unit asks"),
            (f"{_ANSWERED}meta nfproto ipv6 {_QUESTION} {unit} @askers6_{level} redirect to :{port}", "a unit asks"),
            (f"{_PAST} {unit} @askers6_{level} meta mark set {_PASSED:#x}", "a unit asks, and nobody answers"),
        ]
    for user in users:
        uid, key = f"meta skuid {user.uid}", user.workload.key
        to = f"dnat ip to {address_of(user.workload)}:{port}"
        output += [
            (f"{_ANSWERED}meta nfproto ipv4 {_QUESTION} {uid} {to}", f"{key} asks"),
            (f"{_ANSWERED}meta nfproto ipv6 {_QUESTION} {uid} redirect to :{port}", f"{key} asks"),
            (f"{_PAST} {uid} meta mark set {_PASSED:#x}", f"{key} asks, and nobody answers"),
        ]
    lines = [
        f"add table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"add table inet {TABLE}",
        *(f"add map inet {TABLE} askers_{level} {{ type cgroupsv2 : ipv4_addr; }}" for level in levels),
        *(f"add set inet {TABLE} askers6_{level} {{ type cgroupsv2; }}" for level in levels),
        f"add chain inet {TABLE} output {{ type nat hook output priority {PRIORITY}; policy accept; }}",
        f"add chain inet {TABLE} after {{ type filter hook output priority {AFTER}; policy accept; }}",
        f"add rule inet {TABLE} after meta mark {OPEN:#x} meta mark set 0x0",
        f"add rule inet {TABLE} after meta mark {_PASSED:#x} tcp dport 53 meta mark set 0x0",
        f"add chain inet {TABLE} own {{ type filter hook output priority -300; policy accept; }}",
        *(f'add rule inet {TABLE} output {rule} comment "{comment}"' for rule, comment in output),
        f"add rule inet {TABLE} own meta mark & 0xfff == {PROXY_MARK:#x} udp dport 53 ct original zone set 1",
    ]
    return DnsRules("\n".join(lines) + "\n", captured, cgroup_prefix)
