"""Well-formed field lists, one row per rule of RFC 9113 §8.2, §8.3, §8.5."""

from __future__ import annotations

import pytest

from hostmesh.wire.http2.events import Field
from hostmesh.wire.http2.fields import Malformed, check_request, check_response, check_trailers

CONNECT = [(b":method", b"CONNECT"), (b":authority", b"a:1")]
GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/")]

MALFORMED: list[tuple[list[Field], str]] = [
    ([(b":authority", b"a:1")], "a request has a method"),
    ([(b":method", b""), (b":authority", b"a:1")], "which is not empty"),
    ([(b":method", b"CONNECT")], "CONNECT has an authority"),
    ([(b":method", b"CONNECT"), (b":authority", b"")], "which is not empty"),
    ([*CONNECT, (b":path", b"/")], "CONNECT has no path"),
    ([*CONNECT, (b":scheme", b"https")], "CONNECT has no scheme"),
    ([*CONNECT, (b":scheme", b"")], "not even an empty one"),
    (GET[:2], "other requests have a path"),
    ([GET[0], GET[2]], "and a scheme"),
    ([*CONNECT, CONNECT[0]], "pseudo fields come once"),
    ([*CONNECT, (b":status", b"200")], "and only those of requests"),
    ([*CONNECT, (b":", b"x")], "and only known ones"),
    ([(b"x", b"y"), *CONNECT], "and before the others"),
    ([*CONNECT, (b"X", b"y")], "names are lower case"),
    ([*CONNECT, (b"", b"y")], "names are not empty"),
    ([*CONNECT, (b"a b", b"y")], "names are tokens"),
    ([*CONNECT, (b"a:b", b"y")], "without colons"),
    ([*CONNECT, (b"a\x00", b"y")], "without controls"),
    ([*CONNECT, (b"\xe9", b"y")], "and ASCII"),
    ([*CONNECT, (b"connection", b"close")], "connection-specific fields are HTTP/1's"),
    ([*CONNECT, (b"proxy-connection", b"x")], "likewise"),
    ([*CONNECT, (b"keep-alive", b"x")], "likewise"),
    ([*CONNECT, (b"transfer-encoding", b"chunked")], "likewise"),
    ([*CONNECT, (b"upgrade", b"h2c")], "likewise"),
    ([*CONNECT, (b"te", b"gzip")], "te says trailers or nothing"),
    ([*CONNECT, (b"x", b"a\nb")], "values have no line feed"),
    ([*CONNECT, (b"x", b"a\rb")], "nor carriage return"),
    ([*CONNECT, (b"x", b"a\0b")], "nor zero"),
    ([*CONNECT, (b"x", b" a")], "nor leading space"),
    ([*CONNECT, (b"x", b"a\t")], "nor trailing tab"),
    ([(b":method", b"CONNECT"), (b":authority", b"a:1\r\nx: y")], "pseudo fields' neither"),
]


@pytest.mark.parametrize("fields", [row[0] for row in MALFORMED], ids=[row[1] for row in MALFORMED])
def test_malformed_requests(fields: list[Field]) -> None:
    """Each breaks one rule, also when the name was seen in good order before."""
    for _ in range(2):
        with pytest.raises(Malformed):
            check_request(fields)


@pytest.mark.parametrize(
    "fields",
    [
        CONNECT,
        GET,
        [*GET, (b":authority", b"x")],
        [*CONNECT, (b"te", b"trailers"), (b"x", b""), (b"x", b"a b\xff"), (b"!#$%&'*+-.^_`|~09az", b"\x7f")],
    ],
)
def test_good_requests(fields: list[Field]) -> None:
    """What is not forbidden passes, a second time too."""
    check_request(fields)
    check_request(fields)


@pytest.mark.parametrize("status", [b"", b"20", b"2000", b"2o0", b"099", b"600", b"101", b"+20", b" 20"])
def test_bad_status(status: bytes) -> None:
    """Three digits of a known class; 101 does not exist in HTTP/2 (§8.6)."""
    with pytest.raises(Malformed):
        check_response([(b":status", status)])


def test_responses() -> None:
    """Exactly one pseudo field."""
    assert check_response([(b":status", b"200"), (b"x", b"y")]) == 200
    assert check_response([(b":status", b"103")]) == 103
    for fields in ([], [(b"x", b"y")], [(b":status", b"200")] * 2, [(b":status", b"200"), (b":method", b"GET")]):
        with pytest.raises(Malformed):
            check_response(fields)


def test_trailers() -> None:
    """No pseudo field at all."""
    check_trailers([(b"x", b"y")])
    check_trailers([])
    with pytest.raises(Malformed):
        check_trailers([(b":status", b"200")])


def test_names_are_remembered_within_bounds() -> None:
    """Peers may invent names for ever."""
    from hostmesh.wire.http2 import fields as module

    for number in range(3 * module._MAX_GOOD_NAMES):
        check_trailers([(b"x-%d" % number, b"")])
    assert len(module._good_names) <= module._MAX_GOOD_NAMES
