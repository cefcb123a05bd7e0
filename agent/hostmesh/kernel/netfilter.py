"""nftables through its own tool: transactions and listings (nft(8)).

Elements of sets are read and deleted over netlink instead (hostmesh.kernel.netlink): nft takes a cgroup only by its
path, and when it lists one whose cgroup is gone it prints the path of any other file that has the same inode number.
"""

from __future__ import annotations

import json
import subprocess

_TIMEOUT = 30.0


class NetfilterError(OSError):
    """nft refused; the message says what, why and what to do next. Nothing of the transaction was applied."""


class NetfilterUnavailable(NetfilterError):
    """This process cannot use nftables at all: tool, privilege or kernel support is missing."""


class NoSuchCgroup(NetfilterError):
    """A path in the transaction is no cgroup (any more): the unit stopped, or is not the one that was meant."""


def run(transaction: str) -> None:
    """Apply a transaction: all of it or nothing. Blocking, a few milliseconds.

    Raises:
        NoSuchCgroup: a cgroup of the transaction does not exist.
        NetfilterUnavailable: no nft, no CAP_NET_ADMIN, or a kernel without what the rules need.
        NetfilterError: anything else.
    """
    _nft(["-f", "-"], transaction)


def check(transaction: str) -> None:
    """Let nft and the kernel judge a transaction, and apply nothing of it.

    Raises:
        NetfilterUnavailable, NetfilterError: as `run`.
    """
    _nft(["--check", "-f", "-"], transaction)


def list_table(family: str, name: str, *, elements: bool = False) -> str | None:
    """A table without counters and handles, as nft prints it; None when there is no such table.

    Args:
        family: `inet`, for example.
        name: of the table.
        elements: whether those of sets and maps are listed too.

    Raises:
        NetfilterUnavailable: as `run`.
        NetfilterError: as `run`.
    """
    try:
        return _nft(["-s", *([] if elements else ["-t"]), "-n", "list", "table", family, name])
    except NetfilterError as error:
        if "No such file or directory" in str(error) and not isinstance(error, NetfilterUnavailable):
            return None
        raise


def counters(family: str, table: str) -> dict[str, int]:
    """Packets of each named counter of a table; empty when there is no such table.

    Raises:
        NetfilterUnavailable: as `run`.
        NetfilterError: as `run`.
    """
    try:
        listed = json.loads(_nft(["-j", "list", "counters", "table", family, table]))
    except NetfilterError as error:
        if "No such file or directory" in str(error) and not isinstance(error, NetfilterUnavailable):
            return {}
        raise
    found = (entry["counter"] for entry in listed["nftables"] if "counter" in entry)
    return {str(counter["name"]): int(counter["packets"]) for counter in found}


def _nft(arguments: list[str], text: str | None = None) -> str:
    try:
        done = subprocess.run(["nft", *arguments], input=text, capture_output=True, text=True, timeout=_TIMEOUT)  # noqa: S603, S607, PLW1510 - root's own tool; the return code is read below
    except FileNotFoundError as error:
        raise NetfilterUnavailable("nft is not installed; next: apt install nftables") from error
    except subprocess.TimeoutExpired as error:
        raise NetfilterError(f"nft {arguments[0]} did not finish within {_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        raise explain(done.stderr, text or "")
    return done.stdout


def explain(stderr: str, text: str = "") -> NetfilterError:
    """The error that nft's complaint means."""
    complaint = " ".join(stderr.split()) or "no reason given"
    if "Operation not permitted" in stderr:
        return NetfilterUnavailable(f"nft needs CAP_NET_ADMIN, and root in this network namespace: {complaint}")
    if "cgroupv2 path fails" in stderr:
        return NoSuchCgroup(f"nft: {complaint}")
    if "Operation not supported" in stderr or "Protocol not supported" in stderr:
        return NetfilterUnavailable(f"this kernel lacks a part of nf_tables that capture needs: {complaint}")
    if "add rule" in text and "Could not process rule: No such file or directory" in stderr:
        return NetfilterUnavailable(
            "this kernel lacks a part of nf_tables that capture needs (CONFIG_NFT_SOCKET, NFT_REDIR, NFT_FIB_INET, "
            f"NFT_REJECT_INET, NFT_LOG, NETFILTER_NETLINK_LOG, kernel 5.13 or newer): {complaint}"
        )
    return NetfilterError(f"nft: {complaint}")
