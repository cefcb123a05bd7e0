"""Error codes (RFC 9113 §7)."""

from __future__ import annotations

from h2.errors import ErrorCodes

from hostmesh.wire.http2.errors import ErrorCode, Http2Error, StreamError, error_code


def test_codes_are_those_of_the_rfc() -> None:
    """Names and numbers, as the `h2` library has them."""
    assert {code.name: code.value for code in ErrorCode} == {code.name: code.value for code in ErrorCodes}


def test_unknown_codes_mean_internal_error() -> None:
    """No special behaviour for what nobody knows."""
    assert error_code(8) is ErrorCode.CANCEL
    assert error_code(0xDEAD) is ErrorCode.INTERNAL_ERROR


def test_errors_say_code_and_reason() -> None:
    """They end in logs."""
    assert str(Http2Error(ErrorCode.PROTOCOL_ERROR, "why")) == "PROTOCOL_ERROR: why"
    assert str(StreamError(3, ErrorCode.CANCEL, "why")) == "stream 3: CANCEL: why"
