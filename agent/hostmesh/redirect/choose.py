"""Which tools capture on this host: chosen once, recorded, never mixed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from enum import Enum
from pathlib import Path

from hostmesh.kernel import netfilter
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.files import write_atomically
from hostmesh.kernel.iptables import Family, Iptables, Variant
from hostmesh.kernel.netfilter import NetfilterError, NetfilterUnavailable
from hostmesh.kernel.python_iptables import PythonIptables
from hostmesh.redirect.apply import Redirector
from hostmesh.redirect.iptables_apply import IptablesRedirector, Tools
from hostmesh.redirect.mark_acceptance import CaptureFailed
from hostmesh.redirect.plan import plan

FILE = "backend"
AnyRedirector = Redirector | IptablesRedirector


class Backend(Enum):
    """In the order in which they are tried."""

    NFT = "nft"
    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"
    PYTHON_IPTABLES = "python-iptables"


def works(backend: Backend) -> bool:
    """Whether the tools are there, and the kernel has what they need; changes nothing."""
    try:
        if backend is Backend.NFT:
            netfilter.check(plan([]).rules)
            return True
        with closing(tools(backend)) as found:
            found.save(Family.V4, "nat")
    except NetfilterError:
        return False
    return True


def tools(backend: Backend) -> Tools:
    """What a backend other than nft works with."""
    if backend is Backend.PYTHON_IPTABLES:
        return PythonIptables()
    return Iptables(Variant(backend.value.removeprefix("iptables-")))


def choose(record: Path, wanted: str = "auto", works: Callable[[Backend], bool] = works) -> Backend:
    """The backend of this host; changes nothing.

    Args:
        record: the file that says what was chosen.
        wanted: a backend, or `auto` for the first that works.
        works: asks this host.

    Raises:
        CaptureFailed: another one is recorded: its rules must go first; or the record cannot be read as one.
        NetfilterUnavailable: none works.
    """
    recorded = record.read_text(errors="replace").strip() if record.exists() else ""
    if recorded:
        if recorded not in {one.value for one in Backend}:
            raise CaptureFailed(
                f"{record} names no backend that this version knows: {recorded[:40]!r}; next: remove what is left of "
                f"its rules (nft list ruleset, iptables-save), rm {record}, and start the agent again"
            )
        if wanted not in ("auto", recorded):
            raise CaptureFailed(
                f"this host's rules are {recorded}'s, and backends are never mixed; next: "
                f"hostmesh rules remove, rm {record}, and start the agent again"
            )
        return Backend(recorded)
    candidates = list(Backend) if wanted == "auto" else [Backend(wanted)]
    found = next((backend for backend in candidates if works(backend)), None)
    if found is None:
        raise NetfilterUnavailable(
            f"none of {', '.join(one.value for one in candidates)} can be used here; next: install the package nftables"
        )
    return found


def remember(record: Path, backend: Backend) -> None:
    """Write down what was chosen, before any rule of it is laid out.

    Raises:
        OSError: the record cannot be written.
    """
    if not record.exists():
        write_atomically(record, f"{backend.value}\n".encode(), 0o644)


def redirector(backend: Backend, cgroups: CgroupRoot, runtime: Path) -> AnyRedirector:
    """The owner of the rules in the backend."""
    if backend is Backend.NFT:
        return Redirector(cgroups, runtime)
    return IptablesRedirector(cgroups, runtime, tools(backend))
