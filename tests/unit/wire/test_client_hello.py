"""The server name in a TLS ClientHello."""

from __future__ import annotations

import contextlib
import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.wire.client_hello import MAX_CLIENT_HELLO, MAX_RECORDS, BadClientHello, Incomplete, peek_server_name


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack("!H", kind) + vector(2, content)


def sni(name: bytes) -> bytes:
    return extension(0, vector(2, b"\0" + vector(2, name)))


GREASE = extension(0x0A0A, b"\0")


def body(
    extensions: bytes | None, *, session: bytes = b"", suites: bytes = b"\x13\x02", compression: bytes = b"\0"
) -> bytes:
    start = b"\3\3" + bytes(32) + vector(1, session) + vector(2, suites) + vector(1, compression)
    return start if extensions is None else start + vector(2, extensions)


def message(content: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + vector(3, content)


def records(data: bytes, size: int = 1 << 14) -> bytes:
    """The message cut into records of `size` bytes."""
    return b"".join(b"\x16\3\1" + vector(2, data[start : start + size]) for start in range(0, max(len(data), 1), size))


def real_hello(name: str | None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


HELLO = records(message(body(GREASE + sni(b"a.example") + extension(16, vector(2, vector(1, b"h2"))))))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (real_hello("web.workload.hostmesh.internal"), "web.workload.hostmesh.internal"),
        (real_hello(None), None),
        (HELLO, "a.example"),
        (records(message(body(sni(b"A.Example")))), "a.example"),
        (records(message(body(GREASE))), None),
        (records(message(body(b""))), None),
        (records(message(body(None))), None),
        (records(message(body(sni(b"a.example"), session=bytes(32)))), "a.example"),
        (HELLO + b"\x14\3\3\0\1\1", "a.example"),
        (records(message(body(sni(b"x" * 255)))), "x" * 255),
    ],
)
def test_the_server_name_is_found(data: bytes, name: str | None) -> None:
    """Whatever stands around it; names are compared in lower case."""
    assert peek_server_name(data) == name
    assert peek_server_name(memoryview(data)) == name


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "record type 71"),
        (b"PRI * HTTP/2.0", "record type 80"),
        (b"\x16\2\0\0\1\1", "TLS major version 2"),
        (b"\x16\3\1\0\0", "TLS record of 0 bytes"),
        (b"\x16\3\1\x40\1", "TLS record of 16385 bytes"),
        (records(message(body(GREASE), kind=2)), "handshake message 2"),
        (records(message(body(GREASE), kind=2))[:6], "handshake message 2"),
        (records(b"\1" + (MAX_CLIENT_HELLO - 3).to_bytes(3, "big")), f"ClientHello of {MAX_CLIENT_HELLO + 1} bytes"),
        (records(b"\1" + (1 << 24 | 0xFFFFFF).to_bytes(4, "big")[1:]), "ClientHello of 16777219 bytes"),
        (records(message(b"\3\3" + bytes(31))), "a length reaches beyond"),
        (records(message(body(GREASE, session=bytes(33)))), "session id too long"),
        (records(message(body(GREASE, suites=b""))), "cipher suites"),
        (records(message(body(GREASE, suites=b"\1\2\3"))), "cipher suites"),
        (records(message(body(GREASE, compression=b""))), "no compression"),
        (records(message(body(GREASE) + b"x")), "bytes after the extensions"),
        (records(message(body(sni(b"a") + sni(b"b")))), "extension 0 twice"),
        (records(message(body(GREASE + GREASE))), "extension 2570 twice"),
        (records(message(body(sni(b"")))), "no DNS name"),
        (records(message(body(sni(b"x" * 256)))), "no DNS name"),
        (records(message(body(sni(b"a\0b")))), "no DNS name"),
        (records(message(body(sni("ü".encode())))), "no DNS name"),
        (records(message(body(extension(0, b"")))), "a length reaches beyond"),
        (records(message(body(extension(0, vector(2, b""))))), "a length reaches beyond"),
        (records(message(body(extension(0, vector(2, b"\1" + vector(2, b"a")))))), "no host name"),
        (records(message(body(extension(0, vector(2, (b"\0" + vector(2, b"a")) * 2))))), "more than one"),
        (records(message(body(extension(0, vector(2, b"\0" + vector(2, b"a")) + b"x")))), "bytes after the list"),
        (records(message(body(GREASE + b"\0"))), "a length reaches beyond"),
        (records(message(body(sni(b"a.example"))), 1), f"more than {MAX_RECORDS} records"),
        (records(message(body(GREASE))[:9], 9) + b"\x17\3\3", "record type 23"),
    ],
)
def test_what_is_no_client_hello_is_refused(data: bytes, reason: str) -> None:
    """Every length is checked against what holds it, and nothing may come twice or too long."""
    with pytest.raises(BadClientHello, match=reason):
        peek_server_name(data)


def test_every_beginning_is_incomplete() -> None:
    """Until the last byte of the message is there, the answer is to wait."""
    for data in (HELLO, real_hello("web.example")):
        for end in range(len(data)):
            with pytest.raises(Incomplete):
                peek_server_name(data[:end])


@given(size=st.integers(3, 200), name=st.from_regex(r"[a-z0-9][a-z0-9.-]{0,60}", fullmatch=True))
def test_a_message_may_be_cut_into_records_of_any_size(size: int, name: str) -> None:
    """RFC 8446 §5.1: handshake messages may be fragmented across records."""
    data = records(message(body(GREASE + sni(name.encode()))), size)
    assert peek_server_name(data) == name
    with pytest.raises(Incomplete):
        peek_server_name(data[:-1])


@given(st.binary(max_size=300))
def test_any_bytes_end_in_an_answer(data: bytes) -> None:
    """Noise is a name, no name, more, or a refusal: nothing else."""
    for wrapped in (data, records(data or b"x"), records(message(data)), records(message(body(data)))):
        with contextlib.suppress(Incomplete, BadClientHello):
            peek_server_name(wrapped)


@given(st.data())
def test_damage_ends_in_an_answer(data: st.DataObject) -> None:
    """One changed byte anywhere in a real ClientHello."""
    hello = bytearray(HELLO)
    hello[data.draw(st.integers(0, len(hello) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Incomplete, BadClientHello):
        peek_server_name(bytes(hello))


@given(st.binary(max_size=100))
def test_what_follows_is_not_looked_at(rest: bytes) -> None:
    """The name does not change with what comes behind the ClientHello."""
    assert peek_server_name(HELLO + rest) == "a.example"
