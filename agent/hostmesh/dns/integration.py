"""How the resolver of a host learns to ask the agent for names of the mesh, and only for those (files and commands).

Ordinary names never depend on the agent: a resolver that splits by domain asks it for nothing else, and resolv.conf
names the former servers after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

LINK_NAME = "hostmesh-dns"
LINK_ADDRESS = "169.254.7.53"
PLAIN_ADDRESS = "127.0.15.53"
HEADER = "# hostmesh: names of the mesh are asked of the agent of this host\n"
MAX_SERVERS = 3
"""As many as the C library reads (resolv.conf(5))."""


class Resolver(Enum):
    """What resolves names on a host; values as the command takes them."""

    SYSTEMD_RESOLVED = "systemd-resolved"
    DNSMASQ = "dnsmasq"
    UNBOUND = "unbound"
    RESOLV_CONF = "resolv.conf"


class NotPlain(ValueError):
    """The resolv.conf is not one to be edited; the text says why and what to do."""


def dnsmasq(domains: Sequence[str], port: int) -> str:
    """A file for /etc/dnsmasq.d."""
    servers = (f"server=/{domain}/127.0.0.1#{port}\nrebind-domain-ok=/{domain}/\n" for domain in domains)
    return HEADER + "".join(servers)


def unbound(domains: Sequence[str], port: int) -> str:
    """A file for /etc/unbound/unbound.conf.d."""
    insecure = "".join(f'    domain-insecure: "{domain}"\n' for domain in domains)
    zones = "".join(
        f'forward-zone:\n    name: "{domain}"\n    forward-addr: 127.0.0.1@{port}\n    forward-no-cache: yes\n'
        for domain in domains
    )
    return f"{HEADER}server:\n    do-not-query-localhost: no\n{insecure}{zones}"


def link_commands() -> list[list[list[str]]]:
    """Ways to make a link of our own that is up, the first that works: not every kernel has dummy links."""
    peer = f"{LINK_NAME}-p"
    return [
        [["ip", "link", "add", LINK_NAME, "type", "dummy"]],
        [
            ["ip", "link", "add", LINK_NAME, "type", "veth", "peer", "name", peer],
            ["ip", "link", "set", peer, "up"],
        ],
    ]


def resolved_commands(domains: Sequence[str], port: int) -> list[list[str]]:
    """What makes systemd-resolved ask the link about these domains, and about no others."""
    return [
        ["ip", "address", "replace", f"{LINK_ADDRESS}/32", "dev", LINK_NAME],
        ["ip", "link", "set", LINK_NAME, "up"],
        ["resolvectl", "dns", LINK_NAME, f"{LINK_ADDRESS}:{port}"],
        ["resolvectl", "domain", LINK_NAME, *(f"~{domain}" for domain in domains)],
        ["resolvectl", "default-route", LINK_NAME, "false"],
        ["resolvectl", "dnssec", LINK_NAME, "no"],
        ["resolvectl", "llmnr", LINK_NAME, "no"],
        ["resolvectl", "mdns", LINK_NAME, "no"],
    ]


def with_agent(text: str) -> str:
    """A resolv.conf that names the agent before the others; one that does already is as it was.

    Raises:
        NotPlain: there is no other server: without the agent no name would resolve; or a stub's, which has files of
            its own.
    """
    lines = [line for line in text.splitlines(keepends=True) if not _is_ours(line)]
    servers = [line for line in lines if line.split()[:1] == ["nameserver"]]
    if not servers:
        raise NotPlain("it names no server: without the agent no name would resolve; next: add a nameserver")
    if any(line.split()[1:2] == ["127.0.0.53"] for line in servers):
        raise NotPlain("it is systemd-resolved's; next: --resolver systemd-resolved")
    before = lines.index(servers[0])
    return "".join([*lines[:before], f"nameserver {PLAIN_ADDRESS} # hostmesh\n", *lines[before:]])


def without_agent(text: str) -> str:
    """Inverse of `with_agent`, whatever else has changed since."""
    return "".join(line for line in text.splitlines(keepends=True) if not _is_ours(line))


def _is_ours(line: str) -> bool:
    return line.split()[:2] == ["nameserver", PLAIN_ADDRESS]
