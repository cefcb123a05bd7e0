"""Error codes and what is raised when the peer, or the caller, leaves the protocol (RFC 9113 §5.4, §7)."""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """RFC 9113 §7. A code that a peer invents is kept as the number it is: see `error_code`."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


_CODES = {code.value: code for code in ErrorCode}


def error_code(number: int) -> ErrorCode:
    """The code that a peer sent; unknown ones mean INTERNAL_ERROR (RFC 9113 §7)."""
    return _CODES.get(number, ErrorCode.INTERNAL_ERROR)


class Http2Error(Exception):
    """The connection cannot go on. GOAWAY with `code` is already queued: flush, then close."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code = code
        self.reason = reason


class StreamError(Exception):
    """One stream cannot go on; never leaves this package: the stream is reset with `code`."""

    def __init__(self, stream: int, code: ErrorCode, reason: str) -> None:
        super().__init__(f"stream {stream}: {code.name}: {reason}")
        self.stream = stream
        self.code = code
        self.reason = reason


class StreamLimit(Exception):
    """No stream can be opened now: see `Http2Connection.can_open` and `Http2Connection.spent`."""
