"""iptables through the host's own tools: which one rules here, transactions and listings (iptables-restore(8))."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from hostmesh.kernel.netfilter import NetfilterError, NetfilterUnavailable, NoSuchCgroup

_TIMEOUT = 30.0
_WAIT = "10"
"""Seconds for the lock that legacy tools share (/run/xtables.lock)."""


class Family(Enum):
    """As the tools are named."""

    V4 = "iptables"
    V6 = "ip6tables"


class Variant(Enum):
    """Whose tables: those of nf_tables, or the old ones. A host's rules are in one of them."""

    NFT = "nft"
    LEGACY = "legacy"


@dataclass(frozen=True, slots=True)
class Iptables:
    """The tools of one variant."""

    variant: Variant

    @property
    def name(self) -> str:
        """As the tools are called, `-restore` left out."""
        return f"iptables-{self.variant.value}"

    def close(self) -> None:
        """Nothing runs between two calls."""

    def restore(self, family: Family, text: str) -> None:
        """Apply a text of `iptables-restore`, each table all or nothing, and nothing that it does not name.

        Raises:
            NoSuchCgroup: a cgroup of the text does not exist.
            NetfilterUnavailable: no such tool, or no privilege.
            NetfilterError: anything else.
        """
        wait = ["--wait", _WAIT] if self.variant is Variant.LEGACY else []
        self._run([f"{family.value}-{self.variant.value}-restore", "--noflush", *wait], text)

    def save(self, family: Family, table: str) -> str:
        """A table as the tool prints it, without counters.

        Raises:
            NetfilterUnavailable, NetfilterError: as `restore`.
        """
        return self._run([f"{family.value}-{self.variant.value}-save", "-t", table])

    @staticmethod
    def _run(command: Sequence[str], text: str | None = None) -> str:
        try:
            done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_TIMEOUT, check=False)  # noqa: S603 - root's own tool
        except FileNotFoundError as error:
            raise NetfilterUnavailable(f"{command[0]} is not installed; next: apt install iptables") from error
        except subprocess.TimeoutExpired as error:
            raise NetfilterError(f"{command[0]} did not finish within {_TIMEOUT:.0f} s") from error
        if done.returncode == 0:
            return done.stdout
        complaint = " ".join(done.stderr.split()) or "no reason given"
        if "Permission denied" in complaint or "Operation not permitted" in complaint:
            raise NetfilterUnavailable(f"{command[0]} needs CAP_NET_ADMIN and CAP_NET_RAW: {complaint}")
        if text is not None and "--path" in text:
            # the tools say of a cgroup that is gone what they say of everything: that the kernel refused a line
            raise NoSuchCgroup(f"{command[0]}: {complaint}")
        raise NetfilterError(f"{command[0]}: {complaint}")
