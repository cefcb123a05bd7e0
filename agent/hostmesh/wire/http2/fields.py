"""Which field lists are well formed (RFC 9113 §8.2, §8.3, §8.5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from hostmesh.wire.http2.events import Field

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"),
)
_REQUEST_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path"))
_RESPONSE_PSEUDO: Final = frozenset((b":status",))
_NO_PSEUDO: Final[frozenset[bytes]] = frozenset()

_LF: Final = 0x0A
_CR: Final = 0x0D
_BLANK: Final = b" \t"

_good_names: Final[set[bytes]] = set()
_MAX_GOOD_NAMES: Final = 1024
_MAX_GOOD_NAME_LENGTH: Final = 64


class Malformed(Exception):
    """A request or response that must be treated as a stream error of type PROTOCOL_ERROR (RFC 9113 §8.1.1)."""


def check_request(fields: Sequence[Field]) -> None:
    """A request: CONNECT has exactly :method and :authority; others also :scheme and :path.

    Raises:
        Malformed: what and why.
    """
    pseudo = _check(fields, _REQUEST_PSEUDO)
    method = pseudo.get(b":method")
    if not method:
        raise Malformed("no :method")
    if method == b"CONNECT":
        if len(pseudo) != 2 or not pseudo.get(b":authority"):
            raise Malformed("CONNECT takes :authority, and neither :scheme nor :path")
    elif not pseudo.get(b":scheme") or not pseudo.get(b":path"):
        raise Malformed("a request without :scheme or :path")


def check_response(fields: Sequence[Field]) -> int:
    """A response's status, 100..599 in three digits.

    Raises:
        Malformed: what and why.
    """
    status = _check(fields, _RESPONSE_PSEUDO).get(b":status", b"")
    if len(status) != 3 or not status.isdigit() or not 100 <= int(status) <= 599:
        raise Malformed(f"status {status!r}")
    if status == b"101":
        raise Malformed("HTTP/2 does not switch protocols")
    return int(status)


def check_trailers(fields: Sequence[Field]) -> None:
    """Trailers carry no pseudo fields.

    Raises:
        Malformed: what and why.
    """
    _check(fields, _NO_PSEUDO)


def _check(fields: Sequence[Field], allowed: frozenset[bytes]) -> dict[bytes, bytes]:
    pseudo: dict[bytes, bytes] = {}
    regular = False
    for name, value in fields:
        if name in _good_names:
            regular = True
        elif name[:1] == b":":
            if regular or name not in allowed or name in pseudo:
                raise Malformed(f"pseudo field {name!r} is unknown, repeated or out of place")
            pseudo[name] = value
        else:
            regular = True
            _check_name(name, value)
        if _LF in value or _CR in value or 0 in value or (value and (value[0] in _BLANK or value[-1] in _BLANK)):
            raise Malformed(f"field {name!r} has a line break, a zero or outer white space in its value")
    return pseudo


def _check_name(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise Malformed(f"field name {name!r}")
    if name in _CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
        raise Malformed(f"connection-specific field {name!r}")
    if name != b"te" and len(name) <= _MAX_GOOD_NAME_LENGTH and len(_good_names) < _MAX_GOOD_NAMES:
        _good_names.add(name)
