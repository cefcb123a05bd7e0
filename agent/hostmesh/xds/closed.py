"""What is enforced in place of a policy that was never understood: no access that the real one might refuse.

ztunnel leaves such a policy out. If it was the only ALLOW of a workload, everybody may then call it.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from hostmesh.wire.proto import authorization_pb2 as pb


def stand_in(name: str, data: bytes) -> bytes | None:
    """The policy that closes what a rejected one is about.

    In place of an ALLOW, one that allows nobody: what other policies allow stays allowed. In place of a DENY, or of
    what does not even say which of both it is, one that denies everybody. Its scope is the rejected one's if that can
    be read, else the namespace.

    Args:
        name: of the resource, `namespace/name`.
        data: what was rejected.

    Returns:
        None where there is nothing to close: a dry run never decides, and a name without a namespace closes nobody.
    """
    namespace, slash, own_name = name.partition("/")
    message = _read(data)
    if message.dry_run or not slash:
        return None
    scope = message.scope if message.scope in pb.Scope.values() else pb.NAMESPACE
    allow = message.action == pb.ALLOW
    closed = pb.Authorization(
        name=own_name,
        namespace=namespace,
        scope=scope,
        action=pb.ALLOW if allow else pb.DENY,
        rules=[] if allow else [pb.Rule()],  # no rules match nothing, a rule without clauses matches everything
    )
    return closed.SerializeToString(deterministic=True)


def _read(data: bytes) -> pb.Authorization:
    """What can be read of it; nothing at all where it has no name, which every policy has."""
    nothing = pb.Authorization(scope=pb.NAMESPACE, action=pb.DENY)
    try:
        message = pb.Authorization.FromString(data)
    except DecodeError:
        return nothing
    return message if message.name else nothing
