"""Elements of nftables sets over netlink (linux/netfilter/nf_tables.h). The only module that imports pyroute2.

nft(8) cannot name a cgroup that is gone, so it cannot delete the element of one; the kernel only compares bytes.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST
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

Element = tuple[bytes, bytes]
"""Key and data as the kernel holds them; data is empty in a set that is no map."""


def elements(table: str, names: Sequence[str]) -> dict[str, list[Element]]:
    """Read the elements of sets and maps of an `inet` table; one that does not exist has none.

    Blocking and with an event loop of its own: an asyncio program calls it in a thread.

    Raises:
        NetfilterUnavailable: no CAP_NET_ADMIN.
        NetfilterError: the kernel refused.
    """
    found: dict[str, list[Element]] = _run(_elements(table, names))
    return found


def delete_elements(table: str, keys: Mapping[str, Iterable[bytes]]) -> None:
    """Delete elements of sets and maps of an `inet` table in one transaction, by their raw keys; blocking.

    Raises:
        NetfilterUnavailable: no CAP_NET_ADMIN.
        NetfilterError: one of them does not exist (then none is deleted), or the kernel refused.
    """
    _run(_delete(table, {name: list(several) for name, several in keys.items()}))


async def _elements(table: str, names: Sequence[str]) -> dict[str, list[Element]]:
    found: dict[str, list[Element]] = {}
    async with AsyncNFTSocket(nfgen_family=_NFPROTO_INET) as socket:
        for name in names:
            found[name] = []
            try:
                async for answer in await socket.request_get(_message(table, name), NFT_MSG_GETSETELEM):
                    found[name] += [_element(e) for e in answer.get_attr("NFTA_SET_ELEM_LIST_ELEMENTS") or ()]
            except NetlinkError as error:
                if error.code != errno.ENOENT:
                    raise
    return found


async def _delete(table: str, keys: Mapping[str, Sequence[bytes]]) -> None:
    deletions = []
    for name, several in keys.items():
        message = _message(table, name)
        message["attrs"].append(("NFTA_SET_ELEM_LIST_ELEMENTS", [_key(key) for key in several]))
        message["header"]["type"] = (_NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_DELSETELEM
        message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK
        deletions.append(message)
    async with AsyncNFTSocket(nfgen_family=_NFPROTO_INET) as socket:
        batch = [_edge(_NFNL_MSG_BATCH_BEGIN), *deletions, _edge(_NFNL_MSG_BATCH_END)]
        async for _ in socket.nlm_request_batch(batch):
            pass


def _run(work: Any) -> Any:  # noqa: ANN401 - pyroute2 has no types
    try:
        return asyncio.run(work)
    except NetlinkError as error:
        if error.code == errno.EPERM:
            raise NetfilterUnavailable("nf_tables needs CAP_NET_ADMIN in this network namespace") from error
        raise NetfilterError(error.code, f"nf_tables: {error}") from error


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
    data = answer.get_attr("NFTA_SET_ELEM_DATA")
    return (
        bytes(answer.get_attr("NFTA_SET_ELEM_KEY").get_attr("NFTA_DATA_VALUE")),
        bytes(data.get_attr("NFTA_DATA_VALUE")) if data is not None else b"",
    )


def _key(key: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_SET_ELEM_KEY", {"attrs": [("NFTA_DATA_VALUE", key)]})]}
