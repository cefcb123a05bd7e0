"""SOCKS5 at the server's side, without I/O (RFC 1928): no authentication, CONNECT only.

The caller reads exactly `wanted` bytes each time, so that nothing of what the client sends afterwards is taken from the
socket, and sends what `receive` answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from hostmesh.model.address import SocketAddress, canonical
from hostmesh.wire.hbone import HostPort

VERSION = 5
NO_AUTHENTICATION = 0
NOTHING_ACCEPTABLE = b"\x05\xff"
GREETED = b"\x05\x00"


class Reply(IntEnum):
    """RFC 1928 §6."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    HOST_UNREACHABLE = 4
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_NOT_SUPPORTED = 8


def encode_reply(reply: Reply) -> bytes:
    """Without an address: the proxy's own would tell nobody anything."""
    return bytes((VERSION, reply, 0, 1, 0, 0, 0, 0, 0, 0))


class Refusal(ValueError):
    """The client must be sent `answer` and then be left; `reason` is for the log."""

    def __init__(self, reason: str, answer: bytes) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Step:
    """What to send now; `destination` once the client has said where it wants to go."""

    answer: bytes = b""
    destination: SocketAddress | HostPort | None = None


class Socks5:
    """One negotiation. `wanted` is 0 when it is over."""

    __slots__ = ("_next", "_so_far", "wanted")

    def __init__(self) -> None:
        self.wanted = 2
        self._so_far = b""
        self._next: Callable[[bytes], Step] = self._greeting

    def receive(self, data: bytes) -> Step:
        """Take at most `wanted` bytes.

        Raises:
            Refusal: not SOCKS5, or more than is offered here.
        """
        assert len(data) <= self.wanted
        self._so_far += data
        self.wanted -= len(data)
        if self.wanted:
            return Step()
        whole, self._so_far = self._so_far, b""
        return self._next(whole)

    def _expect(self, size: int, then: Callable[[bytes], Step], answer: bytes = b"") -> Step:
        self.wanted, self._next = size, then
        return Step(answer)

    def _greeting(self, data: bytes) -> Step:
        version, methods = data
        if version != VERSION:
            raise Refusal(f"SOCKS version {version} is not spoken here", NOTHING_ACCEPTABLE)
        if not methods:
            raise Refusal("no SOCKS authentication method offered", NOTHING_ACCEPTABLE)
        return self._expect(methods, self._methods)

    def _methods(self, data: bytes) -> Step:
        if NO_AUTHENTICATION not in data:
            raise Refusal("the SOCKS client insists on authentication", NOTHING_ACCEPTABLE)
        return self._expect(4, self._request, GREETED)

    def _request(self, data: bytes) -> Step:
        version, command, _, kind = data
        if version != VERSION:
            raise Refusal(f"SOCKS version {version} in a request", encode_reply(Reply.GENERAL_FAILURE))
        if command != 1:
            reason = f"SOCKS command {command}: only CONNECT is offered"
            raise Refusal(reason, encode_reply(Reply.COMMAND_NOT_SUPPORTED))
        if kind == 1:
            return self._expect(6, self._ipv4)
        if kind == 4:
            return self._expect(18, self._ipv6)
        if kind == 3:
            return self._expect(1, self._length)
        raise Refusal(f"SOCKS address type {kind}", encode_reply(Reply.ADDRESS_NOT_SUPPORTED))

    def _ipv4(self, data: bytes) -> Step:
        return Step(destination=SocketAddress(IPv4Address(data[:4]), _port(data)))

    def _ipv6(self, data: bytes) -> Step:
        return Step(destination=SocketAddress(canonical(IPv6Address(data[:16])), _port(data)))

    def _length(self, data: bytes) -> Step:
        if not data[0]:
            raise Refusal("an empty name", encode_reply(Reply.GENERAL_FAILURE))
        return self._expect(data[0] + 2, self._name)

    def _name(self, data: bytes) -> Step:
        """An address in the shape of a name is an address."""
        name = data[:-2]
        if not name.isascii() or not name.decode().isprintable():
            raise Refusal("a name that is not printable ASCII", encode_reply(Reply.GENERAL_FAILURE))
        text, port = name.decode(), _port(data)
        try:
            return Step(destination=SocketAddress.of(text, port))
        except ValueError:
            return Step(destination=HostPort(text.lower().removesuffix("."), port))


def _port(data: bytes) -> int:
    return int.from_bytes(data[-2:], "big")
