"""Health probes of containers: the rules that mark what this host itself sends them, and their one owner (nft(8)).

  rewritten  a connection that a process of this host makes to a captured container gets Istio's probe address as its
             source. `meta skuid` is there only for what a local socket sends: what is forwarded keeps its source.
  forged     what arrives from elsewhere under that address is dropped, from the wire and between ports of a bridge.

In the container's namespace such connections are not captured, and policies can tell them (ipBlock 169.254.7.127/32).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from hostmesh.kernel import netfilter
from hostmesh.kernel.netfilter import NetfilterError
from hostmesh.model.local import PROXY_MARK

TABLE = "hostmesh_probes"
SOURCES = {4: "169.254.7.127", 6: "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"}
"""The addresses that health probes of a node come from (Istio)."""

_PRIORITY = 95
"""Before a masquerade (100), which would be found first otherwise."""
_FORGED = -160
_WORD = {4: "ip", 6: "ip6"}
_LOCAL = "meta skuid 0-4294967295"

Address = IPv4Address | IPv6Address


def probe_rules(addresses: Iterable[Address]) -> str:
    """The transaction that lays out the table of the host, whatever was in it before."""
    found = sorted(set(addresses), key=lambda ip: (ip.version, int(ip)))
    lines = [
        *_afresh("inet"),
        f"add chain inet {TABLE} rewritten {{ type nat hook postrouting priority {_PRIORITY}; policy accept; }}",
        f"add chain inet {TABLE} forged {{ type filter hook prerouting priority {_FORGED}; policy accept; }}",
        f"add rule inet {TABLE} rewritten meta mark & 0xfff == {{ {PROXY_MARK:#x}, 0x111 }} return",
    ]
    for version, word in _WORD.items():
        own = ", ".join(str(ip) for ip in found if ip.version == version)
        if own:
            match = f"{word} daddr {{ {own} }} meta l4proto tcp {_LOCAL}"
            lines.append(f'add rule inet {TABLE} rewritten {match} snat {word} to {SOURCES[version]} comment "a probe"')
    lines += [f'add rule inet {TABLE} forged iifname != "lo" {rule}' for rule in _drops()]
    return "\n".join(lines) + "\n"


def bridge_rules() -> str:
    """The transaction for what crosses a bridge from port to port, which the table above does not see."""
    chain = f"add chain bridge {TABLE} forged {{ type filter hook forward priority {_FORGED}; policy accept; }}"
    return (
        "\n".join([*_afresh("bridge"), chain, *(f"add rule bridge {TABLE} forged {rule}" for rule in _drops())]) + "\n"
    )


def _drops() -> Iterator[str]:
    return (f'{word} saddr {SOURCES[version]} drop comment "forged"' for version, word in _WORD.items())


def _afresh(family: str) -> list[str]:
    # `add` first: deleting a table that is not there would be an error
    return [f"{verb} table {family} {TABLE}" for verb in ("add", "delete", "add")]


class ProbeRedirector:
    """Blocking: an asyncio program calls it in a thread, one call at a time.

    Args:
        runtime: directory that lives until the next boot.
        run: applies a transaction.
        list_table: a table, None when it is not there.
    """

    def __init__(
        self,
        runtime: Path,
        run: Callable[[str], None] = netfilter.run,
        list_table: Callable[[str, str], str | None] = netfilter.list_table,
    ) -> None:
        self._marker = runtime / "probe-rules"
        self._run = run
        self._list = list_table
        self._applied: tuple[str, tuple[str | None, ...]] | None = None
        self.problem = ""

    def apply(self, addresses: Iterable[Address]) -> tuple[str, ...]:
        """Rewrite probes of containers at these addresses; what differed, one line each.

        Raises:
            NetfilterError: nft refused; the table of the host is as it was.
        """
        found = tuple(addresses)
        if not found:
            return self._remove()
        text = probe_rules(found)
        if self._applied == (text, self._listed()):
            return ()
        self._run(text)
        try:
            self._run(bridge_rules())
            self.problem = ""
        except NetfilterError as error:
            self.problem = f"containers of one bridge can pass for probes of this host: {error}"
        self._marker.touch()
        self._applied = text, self._listed()
        return (f"table inet {TABLE} laid out",)

    def _listed(self) -> tuple[str | None, ...]:
        return tuple(self._list(family, TABLE) for family in ("inet", *(() if self.problem else ("bridge",))))

    def _remove(self) -> tuple[str, ...]:
        if not self._marker.exists():
            return ()
        for family in ("inet", "bridge"):
            if self._list(family, TABLE) is not None:
                self._run(f"delete table {family} {TABLE}\n")
        self._marker.unlink()
        self._applied = None
        return (f"table inet {TABLE} is gone",)
