"""HostKeySigner: asks hostmesh-host-key to sign an enrolment; the key itself never comes into the agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hostmesh.wire.host_proof import MAX_LINE, Statement, decode_reply, encode_request

SOCKET = Path("/run/hostmesh-host-key.sock")
TIMEOUT = 15.0
"""Seconds for one signature; systemd may have to start the helper first."""


class HostKeyUnavailable(Exception):
    """This host cannot prove itself by its SSH host key; the text says why and what to do."""


class HostKeySigner:
    """One connection for each signature.

    Args:
        path: of the helper's socket.
        timeout: seconds.
    """

    def __init__(self, path: Path = SOCKET, timeout: float = TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout

    async def sign(self, statement: Statement) -> tuple[bytes, ...]:
        """SSHSIG blobs, one by each host key.

        Raises:
            HostKeyUnavailable: the helper does not answer, or there is no key.
        """
        try:
            async with asyncio.timeout(self._timeout):
                line = await self._ask(encode_request(statement))
        except OSError as error:
            why = error.strerror or str(error) or "no answer in time"
            raise HostKeyUnavailable(
                f"hostmesh-host-key does not answer at {self._path} ({why}); next: systemctl start "
                "hostmesh-host-key.socket"
            ) from error
        try:
            return decode_reply(line)
        except ValueError as error:
            raise HostKeyUnavailable(f"this host cannot sign with its SSH host key: {error}") from error

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_LINE)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.readline()
        except ValueError as error:
            raise ConnectionError(f"its answer is longer than {MAX_LINE} bytes") from error
        finally:
            writer.close()
