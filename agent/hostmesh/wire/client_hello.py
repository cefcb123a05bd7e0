"""The server name in a TLS ClientHello, read before any TLS engine exists (RFC 8446 §4.1.2, §5.1; RFC 6066 §3).

A server of several workloads must know which certificate to show before it makes its side of the connection.
The parser looks at a copy of the first bytes and takes nothing from them.
"""

from __future__ import annotations

from typing import Final

MAX_CLIENT_HELLO: Final = 1 << 15
"""Bytes of handshake message that are waited for; real ones have 200 to 2,500."""

MAX_RECORDS: Final = 64
"""Records that it may be cut into; real clients use one. Every question starts at the first again."""

UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"
CERTIFICATE_UNOBTAINABLE: Final = b"\x15\x03\x03\x00\x02\x02\x6f"
"""Fatal alerts instead of a ServerHello (RFC 6066 §9): nobody has that name; who has it has no certificate."""

_HANDSHAKE_RECORD = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0
_RECORD_HEADER = 5
_MESSAGE_HEADER = 4
_MAX_RECORD = 1 << 14
_MAX_NAME = 255
_VERSION_AND_RANDOM = 2 + 32
_MAX_SESSION_ID = 32
_NAME_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")


class Incomplete(Exception):
    """So far it may become a ClientHello: read more and ask again."""


class BadClientHello(Exception):
    """The bytes do not begin with a ClientHello; the text says where they stop being one."""


def peek_server_name(data: bytes | memoryview) -> str | None:
    """The server name that the client asks for; None when it names none.

    Args:
        data: all bytes from the beginning of the connection; what follows the ClientHello is not looked at.

    Raises:
        Incomplete: the ClientHello is longer than `data`.
        BadClientHello: no ClientHello, or larger than `MAX_CLIENT_HELLO`.
    """
    body = _Reader(_message(memoryview(data)))
    body.skip(_VERSION_AND_RANDOM)
    if len(body.vector(1)) > _MAX_SESSION_ID:
        raise BadClientHello("session id too long")
    suites = body.vector(2)
    if len(suites) < 2 or len(suites) % 2:
        raise BadClientHello("cipher suites have an odd length")
    if not body.vector(1):
        raise BadClientHello("no compression methods")
    if body.at_end():
        return None
    extensions = _Reader(body.vector(2))
    if not body.at_end():
        raise BadClientHello("bytes after the extensions")
    return _server_name(extensions)


def _message(data: memoryview) -> bytes:
    """The ClientHello's body, put together from the records that carry it."""
    message = bytearray()
    position = 0
    for _ in range(MAX_RECORDS):
        fragment = _fragment(data, position)
        position += _RECORD_HEADER + len(fragment)
        message += fragment
        if message[0] != _CLIENT_HELLO:
            raise BadClientHello(f"handshake message {message[0]} instead of a ClientHello")
        if len(message) >= _MESSAGE_HEADER:
            end = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER], "big")
            if end > MAX_CLIENT_HELLO:
                raise BadClientHello(f"ClientHello of {end} bytes")
            if len(message) >= end:
                return bytes(message[_MESSAGE_HEADER:end])
    raise BadClientHello(f"ClientHello in more than {MAX_RECORDS} records")


def _fragment(data: memoryview, position: int) -> memoryview:
    """The payload of the record at `position`, or the part of it that is there if that is enough to judge."""
    header = data[position : position + _RECORD_HEADER]
    if len(header) > 0 and header[0] != _HANDSHAKE_RECORD:
        raise BadClientHello(f"record type {header[0]} instead of a TLS handshake")
    if len(header) > 1 and header[1] != 3:
        raise BadClientHello(f"TLS major version {header[1]}")
    if len(header) < _RECORD_HEADER:
        raise Incomplete
    length = int.from_bytes(header[3:5], "big")
    if not 0 < length <= _MAX_RECORD:
        raise BadClientHello(f"TLS record of {length} bytes")
    start = position + _RECORD_HEADER
    fragment = data[start : start + length]
    if position == 0 and len(fragment) > 0 and fragment[0] != _CLIENT_HELLO:
        raise BadClientHello(f"handshake message {fragment[0]} instead of a ClientHello")
    if len(fragment) < length:
        raise Incomplete
    return fragment


def _server_name(extensions: _Reader) -> str | None:
    found: str | None = None
    seen: set[int] = set()
    while not extensions.at_end():
        kind = extensions.integer(2)
        content = extensions.vector(2)
        if kind in seen:
            raise BadClientHello(f"extension {kind} twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            found = _host_name(_Reader(content))
    return found


def _host_name(extension: _Reader) -> str:
    """RFC 6066 §3: a list, in which no kind of name comes twice; only host names are defined."""
    names = _Reader(extension.vector(2))
    if not extension.at_end():
        raise BadClientHello("bytes after the list of server names")
    if names.integer(1) != _HOST_NAME:
        raise BadClientHello("server name that is no host name")
    name = names.vector(2)
    if not names.at_end():
        raise BadClientHello("more than one server name")
    if not 0 < len(name) <= _MAX_NAME or not _NAME_BYTES.issuperset(name):
        raise BadClientHello("server name is no DNS name")
    return name.decode("ascii").lower()


class _Reader:
    """Reads forward through one length-delimited piece."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def at_end(self) -> bool:
        return self._position == len(self._data)

    def skip(self, size: int) -> None:
        self._take(size)

    def integer(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def vector(self, size_of_length: int) -> bytes:
        """RFC 8446 §3.4: a length, then that many bytes."""
        return self._take(self.integer(size_of_length))

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise BadClientHello("a length reaches beyond the ClientHello")
        taken = self._data[self._position : end]
        self._position = end
        return taken
