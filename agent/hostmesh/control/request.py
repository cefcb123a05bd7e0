"""Requests of the operator's door: bodies as strictly read as documents are, and who asks."""

from __future__ import annotations

import json
import socket
import struct
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from hostmesh.config.strict_yaml import Document, InvalidYaml, Problem, parse


class RequestModel(BaseModel):
    """Of a body: nothing unknown, nothing of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


BodyT = TypeVar("BodyT", bound=RequestModel)


async def read_body(request: web.Request, model: type[BodyT]) -> BodyT:
    """The request's JSON.

    Raises:
        InvalidYaml: no JSON, or not of the model's shape.
    """
    try:
        value = json.loads(await request.text())
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidYaml([Problem("request", 1, "", f"not JSON: {error}")]) from error
    return parse(Document("request", value, {}), model)


def caller_uid(request: web.Request) -> int:
    """Who asks, as the kernel knows (SO_PEERCRED: pid, uid, gid)."""
    connection = request.get_extra_info("socket")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
