"""The last state of the mesh on disk, so that a host serves after a reboot without the control plane.

File: a line naming the format, the SHA-256 of the rest in hex, then for each type a 4-byte big-endian length and a
DeltaDiscoveryResponse. What was followed on demand is a file of another format: taken for the whole mesh it would make
strangers of all whom it does not name. There the names that were known are the first response's removed ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from hostmesh.kernel.files import write_atomically
from hostmesh.wire.proto.discovery_pb2 import DeltaDiscoveryResponse, Resource
from hostmesh.xds.codec import ADDRESS_TYPE, Rejected
from hostmesh.xds.held import KEY_OF, Held, Versioned
from hostmesh.xds.interest import Interest

_log = logging.getLogger(__name__)

_MAGIC = b"hostmesh xds snapshot 1\n"
_MAGIC_ON_DEMAND = b"hostmesh xds snapshot 1, on demand\n"
_DIGEST = 64
_LENGTH = 4
MAX_BYTES = 512 << 20
WRITE_INTERVAL = 5.0


class _Damaged(Exception):
    """The file is not a whole snapshot."""


class _OtherFormat(Exception):
    """The mesh was followed in another way."""


def load_snapshot(path: Path, own: Sequence[str] | None = None) -> Held:
    """What was held when the file was written; nothing if it is missing or damaged (which is logged).

    Args:
        path: of the file.
        own: where the mesh is followed on demand, the names that are always followed.
    """

    def nothing() -> Held:
        return Held(Interest(own) if own is not None else None)

    held = nothing()
    try:
        _parse(_content(path), held)
    except FileNotFoundError:
        return held
    except _OtherFormat:
        _log.info("%s: the mesh is followed in another way now: waiting for the control plane", path)
        held = nothing()
        held.anew = True
        return held
    except (OSError, _Damaged, DecodeError) as error:
        _log.warning("%s: the cached state of the mesh is not usable (%s): waiting for the control plane", path, error)
        return nothing()
    return held


def dump_snapshot(held: Held) -> bytes:
    """The file's content."""
    body = bytearray()
    if held.interest is not None:
        _append(body, DeltaDiscoveryResponse(type_url=ADDRESS_TYPE, removed_resources=held.interest.known))
    for type_url, resources in held.by_type.items():
        message = DeltaDiscoveryResponse(type_url=type_url)
        for name, entry in resources.items():
            packed = Any(type_url=type_url, value=entry.data)
            message.resources.append(Resource(name=name, version=entry.version, resource=packed))
        _append(body, message)
    magic = _MAGIC if held.interest is None else _MAGIC_ON_DEMAND
    return magic + hashlib.sha256(body).hexdigest().encode() + bytes(body)


def _append(body: bytearray, message: DeltaDiscoveryResponse) -> None:
    data = message.SerializeToString()
    body += len(data).to_bytes(_LENGTH, "big") + data


class SnapshotWriter:
    """Writes at most once in `interval` seconds, 0600, and once more when it is cancelled."""

    def __init__(self, path: Path, held: Held, interval: float = WRITE_INTERVAL) -> None:
        self._path = path
        self._held = held
        self._interval = interval
        self._dirty = asyncio.Event()

    def changed(self) -> None:
        """There is something new to write."""
        self._dirty.set()

    async def run(self) -> None:
        """Write what changes until cancelled. A full disk is logged, not fatal: the file is only a cache."""
        loop = asyncio.get_running_loop()
        writing: asyncio.Future[None] | None = None
        try:
            while True:
                await self._dirty.wait()
                self._dirty.clear()
                writing = loop.run_in_executor(None, self._write, dump_snapshot(self._held))
                await asyncio.shield(writing)
                await asyncio.sleep(self._interval)
        finally:
            if writing is not None:
                await writing  # a thread goes on when its task is cancelled, and two would write one file
            if self._dirty.is_set():
                self._write(dump_snapshot(self._held))

    def _write(self, data: bytes) -> None:
        try:
            write_atomically(self._path, data)
        except OSError as error:
            _log.warning("%s: the state of the mesh could not be cached: %s", self._path, error.strerror)


def _content(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise _Damaged(f"longer than {MAX_BYTES} bytes")
    return path.read_bytes()


def _parse(data: bytes, held: Held) -> None:
    magic, other = (_MAGIC, _MAGIC_ON_DEMAND) if held.interest is None else (_MAGIC_ON_DEMAND, _MAGIC)
    if data.startswith(other):
        raise _OtherFormat
    start = len(magic) + _DIGEST
    body = data[start:]
    if not data.startswith(magic) or hashlib.sha256(body).hexdigest().encode() != data[len(magic) : start]:
        raise _Damaged("its checksum is wrong")
    position = 0
    while position < len(body):
        end = position + _LENGTH + int.from_bytes(body[position : position + _LENGTH], "big")
        message = DeltaDiscoveryResponse.FromString(body[position + _LENGTH : end])
        _keep(message, held)
        position = end


def _keep(message: DeltaDiscoveryResponse, held: Held) -> None:
    key_of = KEY_OF.get(message.type_url)
    if key_of is None:
        return
    if held.interest is not None and message.type_url == ADDRESS_TYPE:
        held.interest.restore(message.removed_resources)
    for resource in message.resources:
        try:
            key = key_of(resource.resource.value)
        except Rejected as rejected:
            _log.warning("cached %s is not usable any more: %s", resource.name, rejected.reason)
            continue
        if key == resource.name:
            held.by_type[message.type_url][key] = Versioned(resource.version, resource.resource.value)
