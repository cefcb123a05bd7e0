"""What a connection tells its owner after bytes came in; dispatch on `type(event)`.

Not frozen, unlike most values of the project, and those that come with every frame or request have constructors of
their own: what `dataclass` writes stays interpreted where all around it is compiled, at four times the cost (frozen:
at fourteen times).
"""

from __future__ import annotations

from builtins import memoryview  # noqa: A004  mypyc looks for the types of fields in the module
from dataclasses import dataclass
from typing import final

from hostmesh.wire.http2.errors import ErrorCode

Field = tuple[bytes, bytes]


@final
@dataclass(slots=True, init=False)
class Headers:
    """A request (server) or final response (client); names are lower case, pseudo fields come first.

    Informational responses are not reported. `end` means that no data follows.
    """

    stream: int
    fields: list[Field]
    end: bool

    def __init__(self, stream: int, fields: list[Field], end: bool) -> None:
        self.stream = stream
        self.fields = fields
        self.end = end


@final
@dataclass(slots=True, init=False)
class Data:
    """Some bytes of a stream, without padding; `view` is valid until the next `receive()`.

    Every byte must be given back with `credit()` once the application has taken it. Empty only when `end`.
    Trailers are reported as an empty last piece.
    """

    stream: int
    view: memoryview
    end: bool

    def __init__(self, stream: int, view: memoryview, end: bool) -> None:
        self.stream = stream
        self.view = view
        self.end = end


@final
@dataclass(slots=True)
class Reset:
    """The stream is gone: reset by the peer, by us for a broken rule, or above the last stream of a GOAWAY.

    REFUSED_STREAM means that the peer has not processed it: it may be tried again on another connection.
    """

    stream: int
    code: ErrorCode


@final
@dataclass(slots=True)
class WindowOpened:
    """A `reserve()` that came back empty for want of window may be tried again; stream 0 means every stream."""

    stream: int


@final
@dataclass(slots=True)
class GoAway:
    """The peer takes no streams above `last_stream`; ours above it were reported as `Reset` just before."""

    last_stream: int
    code: ErrorCode


@final
@dataclass(slots=True)
class PingAck:
    """The peer answered `ping(payload)`; 8 bytes."""

    payload: bytes


@final
@dataclass(slots=True)
class SettingsChanged:
    """The peer's settings were applied: see `remote_max_streams` and `can_open`."""


Event = Headers | Data | Reset | WindowOpened | GoAway | PingAck | SettingsChanged
