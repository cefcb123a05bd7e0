"""A waypoint's program on the wire (hostmesh.waypoint.v1.Program)."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from pydantic import TypeAdapter, ValidationError

from hostmesh.model.waypoint import WaypointProgram
from hostmesh.wire.proto import waypoint_pb2 as pb
from hostmesh.xds.fields import Rejected

_PROGRAM = TypeAdapter(WaypointProgram)


def program_name(program: WaypointProgram) -> str:
    """The resource's name."""
    return f"{program.namespace}/{program.name}"


def encode_program(program: WaypointProgram) -> bytes:
    """The resource's bytes, the same for the same content."""
    message = pb.Program(namespace=program.namespace, name=program.name, json=_PROGRAM.dump_json(program))
    return message.SerializeToString(deterministic=True)


def decode_program(data: bytes) -> WaypointProgram:
    """From the resource's bytes.

    Raises:
        Rejected: unreadable, or of a version that says things which are not known here.
    """
    try:
        return _PROGRAM.validate_json(pb.Program.FromString(data).json, extra="forbid")
    except DecodeError as error:
        raise Rejected("decode error: not a Program") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Rejected(f"program of a waypoint: {where}: {first['msg']}") from error
