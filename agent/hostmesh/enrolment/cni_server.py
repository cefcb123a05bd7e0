"""What hostmesh-cni asks the agent: root alone may, over /run/hostmesh/cni.sock; one packet there, one back."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hostmesh.enrolment.attachments import Attachment, AttachmentRefused, Attachments, Key

_log = logging.getLogger("hostmesh.cni")

SOCKET_NAME = "cni.sock"
NOTES = "cni-gone"
"""Where the plugin leaves notes of removals while the agent is away."""

MAX_PACKET = 1 << 18
MAX_ASKING = 64
_TIMEOUT = 5.0
_PAUSE = 0.1
"""Seconds after a request that could not be accepted."""
_NOTE_LIMIT = 4096
_UCRED = struct.Struct("3i")


class Host(Protocol):
    """What enrolment does to this host. All raise OSError or ValueError with a text that says why not."""

    async def refresh(self) -> None:
        """Make the host agree with the attachments."""
        ...

    def is_captured(self, workload: str) -> bool:
        """Whether the workload's namespace is captured now."""
        ...

    def problem_of(self, workload: str) -> str:
        """Why it is not."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    said: dict[str, Any]
    descriptor: int | None


class CniServer:
    """Serves until `run` is cancelled. Requests are carried out one after the other.

    Args:
        directory: where the socket and the notes are.
        attachments: what is enrolled.
        host: carries it out.
        users: who may ask.
    """

    def __init__(
        self, directory: Path, attachments: Attachments, host: Host, users: frozenset[int] = frozenset({0})
    ) -> None:
        self._directory = directory
        self._attachments = attachments
        self._host = host
        self._users = users
        self._lock = asyncio.Lock()
        self._asking = asyncio.Semaphore(MAX_ASKING)
        self._verbs: dict[str, Callable[[_Asked], Awaitable[str]]] = {
            "add": self._add,
            "del": self._del,
            "check": self._check,
            "status": self._status,
            "gc": self._gc,
        }

    async def run(self) -> None:
        """Answer; what was left to do while the agent was away has been read by `read_notes`."""
        loop = asyncio.get_running_loop()
        with self._listen() as listener:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._asking.acquire()
                    try:
                        connection, _ = await loop.sock_accept(listener)
                    except OSError as error:  # out of descriptors, for example
                        self._asking.release()
                        _log.warning("a CNI request was not accepted: %s", error)
                        await asyncio.sleep(_PAUSE)
                        continue
                    tasks.create_task(self._serve(connection), name="cni request")

    def read_notes(self) -> None:
        """Forget what was removed while the agent was away.

        Raises:
            OSError: the directory cannot be read or written.
        """
        notes = self._directory / NOTES
        notes.mkdir(mode=0o755, exist_ok=True)
        gone: list[Key] = []
        for note in notes.iterdir():
            with note.open("rb") as file, suppress(ValueError, KeyError, TypeError):
                gone.append(_key(json.loads(file.read(_NOTE_LIMIT))))
            note.unlink()
        self._attachments.remove(gone)
        self._attachments.drop_dead()

    def _listen(self) -> socket.socket:
        path = self._directory / SOCKET_NAME
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(MAX_ASKING)
        return listener

    async def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                answer = await self._answer(connection)
                connection.send(json.dumps({"error": answer}).encode())
        except OSError as error:
            _log.warning("a CNI request was not answered: %s", error)
        finally:
            self._asking.release()

    async def _answer(self, connection: socket.socket) -> str:
        _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid not in self._users:
            return f"user {uid} may not ask"
        connection.settimeout(_TIMEOUT)
        packet, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, connection, MAX_PACKET, 1)
        descriptor = descriptors[0] if descriptors else None
        try:
            said = dict(json.loads(packet))
            verb = self._verbs[said["verb"]]
        except (ValueError, KeyError, TypeError):
            said, verb = {}, None
        if descriptor is not None and said.get("verb") != "add":
            os.close(descriptor)
            descriptor = None
        if verb is None:
            return "not a request"
        asked = _Asked(said, descriptor)
        try:
            async with self._lock:
                return await verb(asked)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("CNI %s failed: %s", asked.said["verb"], error)
            return str(error) or type(error).__name__

    async def _add(self, asked: _Asked) -> str:
        if asked.descriptor is None:
            return "the namespace's descriptor is missing"
        said = asked.said
        try:
            attachment = Attachment(
                *_key(said),
                str(said["workload"]),
                str(said["serviceAccount"]),
                str(said["netns"]),
                tuple(map(str, said["addresses"])),
                said.get("dns") is True,
            )
        except (KeyError, TypeError):
            os.close(asked.descriptor)
            raise
        self._attachments.add(attachment, asked.descriptor)
        why = ""
        try:
            await self._host.refresh()
        except (OSError, ValueError) as error:
            why = str(error)
        if not why and self._host.is_captured(attachment.workload):
            return ""
        why = why or self._host.problem_of(attachment.workload)
        self._attachments.remove([attachment.key])
        with suppress(OSError, ValueError):  # the first failure is what matters
            await self._host.refresh()
        return why

    async def _del(self, asked: _Asked) -> str:
        if self._attachments.remove([_key(asked.said)]):
            await self._host.refresh()
        return ""

    async def _check(self, asked: _Asked) -> str:
        attachment = self._attachments.find(_key(asked.said))
        if attachment is None:
            return "the container is not enrolled"
        if attachment.workload != asked.said["workload"]:
            return f"the container is enrolled as {attachment.workload}"
        await self._host.refresh()
        return "" if self._host.is_captured(attachment.workload) else self._host.problem_of(attachment.workload)

    async def _status(self, asked: _Asked) -> str:
        del asked
        await self._host.refresh()
        return ""

    async def _gc(self, asked: _Asked) -> str:
        valid = {(str(one["container"]), str(one["ifname"])) for one in asked.said["valid"]}
        if self._attachments.remove(self._attachments.surplus(str(asked.said["network"]), valid)):
            await self._host.refresh()
        return ""


def _key(said: dict[str, Any]) -> Key:
    return str(said["network"]), str(said["container"]), str(said["ifname"])


__all__ = ["AttachmentRefused", "CniServer", "Host"]
