"""Elements of nftables sets over netlink (linux/netfilter/nf_tables.h).

nft(8) cannot name a cgroup that is gone, so it cannot delete the element of one; the kernel only compares bytes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pyroute2.netlink import NETLINK_NETFILTER, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELSETELEM,
    NFT_MSG_GETSETELEM,
    AsyncNFTSocket,
    nft_set_elem_list_msg,
)

from hostmesh.kernel.netfilter import NetfilterError, NetfilterUnavailable

_NFPROTO_INET = 1
_NFNL_SUBSYS_NFTABLES = 10
_NFNL_MSG_BATCH_BEGIN = 0x10
_NFNL_MSG_BATCH_END = 0x11
_ERROR = struct.Struct("=IH2xI4xi")
_HEADER_SIZE = 16
_ANSWER_TIMEOUT = 5.0

Element = tuple[bytes, bytes]
"""Key and data as the kernel holds them; data is empty in a set that is no map, and a verdict is the chain's name."""


def elements(table: str, names: Sequence[str]) -> dict[str, list[Element]]:
    """Read the elements of sets and maps of an `inet` table; one that does not exist has none.

    Blocking and with an event loop of its own: an asyncio program calls it in a thread.

    Raises:
        NetfilterUnavailable: no CAP_NET_ADMIN.
        NetfilterError: the kernel refused.
    """
    with _errors():
        return asyncio.run(_elements(table, names))


def delete_elements(table: str, keys: Mapping[str, Iterable[bytes]]) -> None:
    """Delete elements of sets and maps of an `inet` table in one transaction, by their raw keys; blocking.

    Raises:
        NetfilterUnavailable: no CAP_NET_ADMIN.
        NetfilterError: one of them does not exist (then none is deleted), or the kernel refused.
    """
    with _errors():
        _delete(table, {name: list(several) for name, several in keys.items()})


async def _elements(table: str, names: Sequence[str]) -> dict[str, list[Element]]:
    found: dict[str, list[Element]] = {}
    async with asyncio.timeout(_ANSWER_TIMEOUT), AsyncNFTSocket(nfgen_family=_NFPROTO_INET) as netlink:
        for name in names:
            found[name] = []
            try:
                async for answer in await netlink.request_get(_message(table, name), NFT_MSG_GETSETELEM):
                    found[name] += [_element(e) for e in answer.get_attr("NFTA_SET_ELEM_LIST_ELEMENTS") or ()]
            except NetlinkError as error:
                if error.code != errno.ENOENT:
                    raise
    return found


def _delete(table: str, keys: Mapping[str, Sequence[bytes]]) -> None:
    """Send the batch over a plain socket.

    pyroute2 would wait for ever for the answers to the deletions when the kernel refuses the batch as a whole.
    """
    messages = [_edge(_NFNL_MSG_BATCH_BEGIN)]
    for name, several in keys.items():
        message = _message(table, name)
        message["attrs"].append(("NFTA_SET_ELEM_LIST_ELEMENTS", [_key(key) for key in several]))
        message["header"]["type"] = (_NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_DELSETELEM
        message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK
        messages.append(message)
    messages.append(_edge(_NFNL_MSG_BATCH_END))
    for sequence, message in enumerate(messages):
        message["header"]["sequence_number"] = sequence
        message.encode()
    waiting = set(range(1, len(messages) - 1))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as netlink:
        netlink.settimeout(_ANSWER_TIMEOUT)
        netlink.bind((0, 0))
        netlink.send(b"".join(bytes(message.data) for message in messages))
        while waiting:
            for sequence, code in _answers(netlink.recv(65536)):
                if code != 0:
                    raise NetlinkError(-code, os.strerror(-code))
                waiting.discard(sequence)


def _answers(data: bytes) -> Iterator[tuple[int, int]]:
    """Sequence number and (negative) error code of each NLMSG_ERROR; code 0 is an acknowledgement."""
    while len(data) >= _ERROR.size:
        length, kind, sequence, code = _ERROR.unpack_from(data)
        if kind == NLMSG_ERROR:
            yield sequence, code
        data = data[max(length + 3 & ~3, _HEADER_SIZE) :]


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise NetfilterError(f"nf_tables did not answer within {_ANSWER_TIMEOUT:.0f} s") from error
    except NetlinkError as error:
        if error.code == errno.EPERM:
            raise NetfilterUnavailable("nf_tables needs CAP_NET_ADMIN in this network namespace") from error
        raise NetfilterError(error.code, f"nf_tables: {os.strerror(error.code)}") from error


def _message(table: str, name: str) -> nft_set_elem_list_msg:
    message = nft_set_elem_list_msg()
    message["nfgen_family"] = _NFPROTO_INET
    message["attrs"] = [("NFTA_SET_ELEM_LIST_TABLE", table), ("NFTA_SET_ELEM_LIST_SET", name)]
    return message


def _edge(message_type: int) -> nfgen_msg:
    message = nfgen_msg()
    message["res_id"] = _NFNL_SUBSYS_NFTABLES
    message["header"]["type"] = message_type
    message["header"]["flags"] = NLM_F_REQUEST
    return message


def _element(answer: Any) -> Element:  # noqa: ANN401 - pyroute2 has no types
    key = bytes(answer.get_attr("NFTA_SET_ELEM_KEY").get_attr("NFTA_DATA_VALUE"))
    data = answer.get_attr("NFTA_SET_ELEM_DATA")
    verdict = data.get_attr("NFTA_DATA_VERDICT") if data is not None else None
    if verdict is not None:
        return key, str(verdict.get_attr("NFTA_VERDICT_CHAIN") or "").encode()
    return key, bytes(data.get_attr("NFTA_DATA_VALUE")) if data is not None else b""


def _key(key: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_SET_ELEM_KEY", {"attrs": [("NFTA_DATA_VALUE", key)]})]}
