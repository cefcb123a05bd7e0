"""External authorizers of our own: over HTTP and over Envoy's gRPC; who says `x-let: me-in` may."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc
from tests.support.grpc_app import GrpcApp
from tests.support.http_app import Asked, Behaviour, HttpApp

CHECK = "/envoy.service.auth.v3.Authorization/Check"
PERMISSION_DENIED = 7


def http_authorizer(ip: str) -> HttpApp:
    """200 with a header for the application, or 403 with one for the caller."""

    def decide(asked: Asked) -> int:
        return 200 if asked.headers.get("x-let") == "me-in" else 403

    return HttpApp(ip, "authorizer", Behaviour(decide=decide, headers={"x-judged": "http"}))


def grpc_authorizer(ip: str) -> GrpcApp:
    """The same; the denied caller gets 418 and a body."""
    return GrpcApp(ip, {CHECK: _check})


@cache
def _messages() -> Mapping[str, Any]:
    """Classes of the messages, compiled from the file beside this one."""
    here = Path(__file__).parent
    with tempfile.NamedTemporaryFile() as file:
        assert not protoc.main(["", f"-I{here}", f"--descriptor_set_out={file.name}", "check.proto"])
        found = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = DescriptorPool()
    pool.Add(found.file[0])
    names = [f"envoy.service.auth.v3.{name}" for name in ("CheckRequest", "CheckResponse")]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names}


def check_request(data: bytes) -> Any:
    """The HTTP request that is asked about."""
    return _messages()["envoy.service.auth.v3.CheckRequest"].FromString(data).attributes.request.http


def _check(data: bytes, metadata: Mapping[str, str]) -> bytes:
    answer = _messages()["envoy.service.auth.v3.CheckResponse"]()
    if check_request(data).headers.get("x-let") == "me-in":
        answer.ok_response.headers.add().header.MergeFrom(_header("x-judged", "grpc"))
    else:
        answer.status.code = PERMISSION_DENIED
        answer.denied_response.status.code = 418
        answer.denied_response.body = "no tea"
    return bytes(answer.SerializeToString())


def _header(name: str, value: str) -> Any:
    added = _messages()["envoy.service.auth.v3.CheckResponse"]().ok_response.headers.add().header
    added.key, added.value = name, value
    return added
