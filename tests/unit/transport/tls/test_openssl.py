"""The OpenSSL inside `cryptography`."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.transport.tls import openssl
from hostmesh.transport.tls.openssl import missing_names

OK, FATAL = 0, 2


def choose(offered: bytes) -> tuple[int, bytes]:
    """What the callback answers to a client's list, as OpenSSL would ask."""
    out, length = ctypes.c_void_p(), ctypes.c_ubyte()
    buffer = ctypes.create_string_buffer(offered, max(len(offered), 1))
    answer = openssl._ALPN_FUNCTION(
        None, ctypes.byref(out), ctypes.byref(length), ctypes.addressof(buffer), len(offered), None
    )
    return answer, ctypes.string_at(out.value, length.value) if out.value else b""


@pytest.mark.parametrize(
    ("offered", "answer"),
    [
        (b"\2h2", (OK, b"h2")),
        (b"\x08http/1.1\2h2", (OK, b"h2")),
        (b"\2h2\x08http/1.1", (OK, b"h2")),
        (b"\x08http/1.1", (FATAL, b"")),
        (b"\3h2c", (FATAL, b"")),
        (b"\3\2h2", (FATAL, b"")),
        (b"", (FATAL, b"")),
        (b"\xffh2", (FATAL, b"")),
    ],
)
def test_alpn_is_h2_or_nothing(offered: bytes, answer: tuple[int, bytes]) -> None:
    """Names are compared whole; lengths that reach beyond the list end it."""
    assert choose(offered) == answer


@given(st.binary(max_size=64))
def test_alpn_answers_any_bytes(offered: bytes) -> None:
    """An exception inside the callback would count as consent."""
    assert choose(offered) in {(OK, b"h2"), (FATAL, b"")}


def test_the_installed_library_has_every_name() -> None:
    """A dependency's new version that lacks one fails here first."""
    assert missing_names() == []


def test_a_missing_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the choice can fall on the other engine with a reason."""
    names = {name: None for name in openssl._NAMES if name != "SSL_write"}
    monkeypatch.setattr(openssl, "lib", SimpleNamespace(**names))
    assert missing_names() == ["SSL_write"]
