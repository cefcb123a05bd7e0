"""SOCKS5 as a server speaks it: every answer, and never a byte more than its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.address import SocketAddress
from hostmesh.wire.hbone import HostPort
from hostmesh.wire.socks5 import GREETED, NOTHING_ACCEPTABLE, Refusal, Reply, Socks5, encode_reply

HELLO = b"\x05\x01\x00"


def talk(data: bytes, pieces: int = 1 << 16) -> tuple[bytes, SocketAddress | HostPort | None, int]:
    """Everything that is answered, what is asked for, and how many bytes were taken."""
    negotiation, answers, taken = Socks5(), b"", 0
    while taken < len(data) and negotiation.wanted:
        piece = data[taken : taken + min(negotiation.wanted, pieces)]
        taken += len(piece)
        step = negotiation.receive(piece)
        answers += step.answer
        if step.destination is not None:
            return answers, step.destination, taken
    return answers, None, taken


@pytest.mark.parametrize(
    ("request_", "destination"),
    [
        ("01 00 01 c0000205 0050", SocketAddress.of("192.0.2.5", 80)),
        ("01 00 04 20010db8000000000000000000000005 01bb", SocketAddress.of("2001:db8::5", 443)),
        ("01 00 04 00000000000000000000ffffc0000205 0050", SocketAddress.of("192.0.2.5", 80)),
        ("01 00 03 07 5765622e6c6162 1f90", HostPort("web.lab", 8080)),
        ("01 00 03 08 5765622e6c61622e 1f90", HostPort("web.lab", 8080)),
        ("01 00 03 09 3139322e302e322e35 0050", SocketAddress.of("192.0.2.5", 80)),
    ],
)
@pytest.mark.parametrize("pieces", [1, 1 << 16])
def test_a_destination_is_understood(request_: str, destination: object, pieces: int) -> None:
    """By IPv4, IPv6 or name, in one piece or many; a name is lower case and without its last dot."""
    whole = HELLO + bytes.fromhex("05" + request_)
    assert talk(whole + b"GET / HTTP/1.1", pieces) == (GREETED, destination, len(whole))


@pytest.mark.parametrize(
    ("said", "answer", "reason"),
    [
        (b"\x04\x01", NOTHING_ACCEPTABLE, "SOCKS version 4"),
        (b"\x05\x00", NOTHING_ACCEPTABLE, "no SOCKS authentication method"),
        (b"\x05\x02\x01\x02", NOTHING_ACCEPTABLE, "insists on authentication"),
        (HELLO + b"\x04\x01\x00\x01", encode_reply(Reply.GENERAL_FAILURE), "SOCKS version 4 in a request"),
        (HELLO + b"\x05\x02\x00\x01", encode_reply(Reply.COMMAND_NOT_SUPPORTED), "only CONNECT"),
        (HELLO + b"\x05\x03\x00\x01", encode_reply(Reply.COMMAND_NOT_SUPPORTED), "only CONNECT"),
        (HELLO + b"\x05\x01\x00\x02", encode_reply(Reply.ADDRESS_NOT_SUPPORTED), "address type 2"),
        (HELLO + b"\x05\x01\x00\x03\x00", encode_reply(Reply.GENERAL_FAILURE), "empty name"),
        (HELLO + b"\x05\x01\x00\x03\x02\xc3\xa9\x00P", encode_reply(Reply.GENERAL_FAILURE), "printable ASCII"),
        (HELLO + b"\x05\x01\x00\x03\x01\n\x00P", encode_reply(Reply.GENERAL_FAILURE), "printable ASCII"),
    ],
)
def test_everything_else_is_refused_with_its_code(said: bytes, answer: bytes, reason: str) -> None:
    """The client is told by the protocol's codes, the operator by words."""
    with pytest.raises(Refusal, match=reason) as refused:
        talk(said)
    assert refused.value.answer == answer


@given(st.binary(max_size=600), st.integers(1, 300))
def test_any_bytes_end_in_a_destination_a_refusal_or_a_wait(data: bytes, pieces: int) -> None:
    """Nothing else comes out, whatever the pieces, and the outcome does not depend on them."""

    def outcome(size: int) -> object:
        try:
            return talk(data, size)
        except Refusal as refusal:
            return refusal.reason

    assert outcome(pieces) == outcome(1 << 16)


@given(st.binary(min_size=1, max_size=255), st.integers(0, 65535), st.binary(max_size=20))
def test_what_follows_the_request_stays_in_the_socket(name: bytes, port: int, rest: bytes) -> None:
    """An eager client's payload is for the other end."""
    request = HELLO + b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big")
    try:
        _, destination, taken = talk(request + rest)
    except Refusal:
        return
    assert destination is not None
    assert taken == len(request)
