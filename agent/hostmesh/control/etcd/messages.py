"""Requests to etcd as values: keys under a prefix, transactions with what they rely on."""

from __future__ import annotations

from collections.abc import Mapping

from hostmesh.control.records import ABSENT
from hostmesh.wire.proto import etcd_pb2 as pb


def end_of(prefix: bytes) -> bytes:
    """The first key after all those that begin with `prefix`."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def transaction(prefix: str, changes: Mapping[str, str | None], expect: Mapping[str, int]) -> pb.TxnRequest:
    """All of the changes, or none if a version is not what is expected."""
    return pb.TxnRequest(
        compare=[_is_at(prefix, key, version) for key, version in expect.items()],
        success=[_operation(f"{prefix}{key}".encode(), value) for key, value in changes.items()],
    )


def put(key: bytes, value: str, lease: int = 0) -> pb.RequestOp:
    """Write one key."""
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value.encode(), lease=lease))


def give_back(key: bytes, lease: int) -> pb.TxnRequest:
    """Remove a key if it still depends on this lease."""
    mine = pb.Compare(target=pb.Compare.CompareTarget.LEASE, key=key, lease=lease)
    delete = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))
    return pb.TxnRequest(compare=[mine], success=[delete])


def _operation(key: bytes, value: str | None) -> pb.RequestOp:
    if value is None:
        return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))
    return put(key, value)


def _is_at(prefix: str, key: str, version: int) -> pb.Compare:
    """A key that is not there has the modification revision 0."""
    assert ABSENT == 0, "as in etcd"
    return pb.Compare(target=pb.Compare.CompareTarget.MOD, key=f"{prefix}{key}".encode(), mod_revision=version)
