"""What comes to a unit past the proxy, where iptables captures: refused by its socket, as no rule sees the listener.

iptables knows a packet's cgroup only when the connection has a socket of its own, so it cannot refuse the first packet,
as nftables does (redirect/rules.py). It refuses what follows the handshake, which is where data begins:

  in INPUT    what comes from another host, whose socket is found before rules are asked: nothing is delivered, and the
              client gets a reset;
  in OUTPUT   what the unit sends, be it an acknowledgement: over lo, where sockets are found after rules are asked, a
              neighbour's first bytes arrive, and no answer leaves.

Connections that are older than the unit's capture live on. So each one that begins past the proxy gets a label for each
unit (xt_connlabel: bits of its own, which nobody else looks at), but not for those that exclude it; and a unit's socket
refuses connections that have its label. The label of a unit is by its number, so no other's is ever taken for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import product

from hostmesh.model.local import NOTICES
from hostmesh.redirect.rules import never_inbound
from hostmesh.redirect.subjects import CapturedUnit, Intent

PAST = "HOSTMESH-PAST"
"""Of a connection that has come past the proxy: whose socket is it?"""
BEGIN = "HOSTMESH-BEGIN"
"""A connection begins past the proxy."""

_ANYBODYS = 127
"""The bit that all of them have; units' come below."""
_LABELLED = 120
"""The highest number with a bit of its own: the lowest seven are left to other programs."""

_OURS = f"-p tcp -m connlabel --label {_ANYBODYS} -m conntrack --ctdir"
TO_SOCKETS = f"{_OURS} ORIGINAL -j {PAST}"
FROM_SOCKETS = f"{_OURS} REPLY -j {PAST}"
BEGINS = f"-m conntrack --ctstate NEW -j {BEGIN}"
"""To be put after what tells a SYN that the proxy has not sent."""


def refusing(unit: CapturedUnit) -> str:
    """The chain for packets of the unit's sockets."""
    return f"HOSTMESH-P{unit.workload.number}"


def labelling(unit: CapturedUnit) -> str:
    """The chain that gives a connection the unit's label, but for what it excludes."""
    return f"HOSTMESH-B{unit.workload.number}"


def past(units: list[CapturedUnit], running: Collection[str], started: str) -> Iterator[str]:
    """The most specific unit comes first, and those that have just started before all."""
    yield f"-j {started}"
    for unit in units:
        for cgroup in sorted({*unit.sockets.cgroups} & {*running}):
            for port, way in product(unit.sockets.ports, ("--dport", "--sport")):
                yield f'-p tcp {way} {port} -m cgroup --path "{cgroup}" -g {refusing(unit)}'
    for unit in units:
        if unit.cgroup in running:
            yield f'-m cgroup --path "{unit.cgroup}" -g {refusing(unit)}'


def begin(intent: Intent, loopback: str) -> Iterator[str]:
    """Loopback is the host's own, and so are sshd's and the proxy's ports."""
    yield f"-d {loopback} -j RETURN"
    for port in never_inbound(intent):
        yield f"-p tcp --dport {port} -j RETURN"
    for unit in intent.units:
        yield f"-j {labelling(unit)}"
    yield f"-m connlabel --label {_ANYBODYS} --set -j RETURN"


def label(unit: CapturedUnit) -> Iterator[str]:
    """After the unit's exclusions."""
    if unit.workload.number <= _LABELLED and not unit.scope.bypass_inbound:
        yield f"-m connlabel --label {_ANYBODYS - unit.workload.number} --set -j RETURN"


def refuse(unit: CapturedUnit) -> Iterator[str]:
    """The agent hears of it, and looks who listens; resets pass, as they end what is to be ended."""
    yield "-p tcp --tcp-flags RST RST -j RETURN"
    if unit.workload.number <= _LABELLED:
        labelled = f"-p tcp -m connlabel --label {_ANYBODYS - unit.workload.number}"
        yield f"{labelled} -j NFLOG --nflog-group {NOTICES} --nflog-threshold 1"
        yield f"{labelled} -j REJECT --reject-with tcp-reset"
