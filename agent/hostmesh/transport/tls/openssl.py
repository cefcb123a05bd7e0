"""The OpenSSL inside `cryptography`, as pyOpenSSL itself calls it (OpenSSL's manual, section 3).

These names are no public interface: `missing_names` says what the installed version lacks, and `select` proves the
engine before it is used. Callbacks of cffi's need memory that is written and executed, which a hardened unit
forbids; the one that TLS needs (ALPN on the server) is made by ctypes.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _lib

from hostmesh.transport.tls.engine import ALPN

# cffi has no types
ffi: Final[Any] = _ffi
lib: Final[Any] = _lib

SSL_MODE_NO_AUTO_CHAIN: Final = 0x8
"""Send the chain as it is: without it OpenSSL verifies our own chain at each handshake and sends the root too."""

_NAMES = (
    "BIO_free",
    "BIO_get_mem_data",
    "BIO_new",
    "BIO_new_mem_buf",
    "BIO_read",
    "BIO_s_mem",
    "BIO_set_mem_eof_return",
    "BIO_write",
    "ERR_clear_error",
    "ERR_get_error",
    "ERR_reason_error_string",
    "SSL_CTX_set_alpn_select_cb",
    "SSL_CTX_set_ciphersuites",
    "SSL_ERROR_NONE",
    "SSL_ERROR_SSL",
    "SSL_ERROR_WANT_READ",
    "SSL_ERROR_ZERO_RETURN",
    "SSL_clear_mode",
    "SSL_do_handshake",
    "SSL_free",
    "SSL_get0_alpn_selected",
    "SSL_get_current_cipher",
    "SSL_get_error",
    "SSL_get_peer_cert_chain",
    "SSL_get_peer_certificate",
    "SSL_get_verify_result",
    "SSL_get_version",
    "SSL_new",
    "SSL_read",
    "SSL_set_accept_state",
    "SSL_set_bio",
    "SSL_set_connect_state",
    "SSL_set_tlsext_host_name",
    "SSL_shutdown",
    "SSL_write",
    "SSL_CIPHER_get_name",
    "SSL_MODE_ENABLE_PARTIAL_WRITE",
    "X509_free",
    "X509_verify_cert_error_string",
    "i2d_X509_bio",
    "sk_X509_num",
    "sk_X509_value",
)


def missing_names() -> list[str]:
    """What this engine calls and the installed `cryptography` does not have."""
    return [name for name in _NAMES if not hasattr(lib, name)]


def certificate_der(certificate: Any) -> bytes:  # noqa: ANN401  cffi
    """A certificate of the library's as bytes."""
    bio = lib.BIO_new(lib.BIO_s_mem())
    try:
        if lib.i2d_X509_bio(bio, certificate) != 1:
            raise MemoryError("no memory for a certificate")
        pieces = []
        piece = ffi.new("char[4096]")
        while (n := lib.BIO_read(bio, piece, 4096)) > 0:
            pieces.append(bytes(ffi.buffer(piece, n)))
        return b"".join(pieces)
    finally:
        lib.BIO_free(bio)


_ALPN_BYTES = ctypes.create_string_buffer(ALPN.encode(), len(ALPN))
_ALPN_OK, _ALPN_FATAL = 0, 2


def _select_alpn(_ssl: int, out: Any, out_length: Any, offered: int, length: int, _argument: int) -> int:  # noqa: ANN401
    """Choose `h2` from the client's list of length-prefixed names, or refuse (RFC 7301 §3.1)."""
    names = ctypes.string_at(offered, length)
    position = 0
    while position < length:
        end = position + 1 + names[position]
        if names[position:end] == b"\2h2":
            out[0] = ctypes.addressof(_ALPN_BYTES)
            out_length[0] = len(_ALPN_BYTES)
            return _ALPN_OK
        position = end
    return _ALPN_FATAL


_ALPN_TYPE = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_ubyte),
    ctypes.c_void_p,
    ctypes.c_uint,
    ctypes.c_void_p,
)
_ALPN_FUNCTION = _ALPN_TYPE(_select_alpn)
ALPN_CALLBACK = ffi.cast(
    ffi.typeof(lib.SSL_CTX_set_alpn_select_cb).args[1], ctypes.cast(_ALPN_FUNCTION, ctypes.c_void_p).value
)
