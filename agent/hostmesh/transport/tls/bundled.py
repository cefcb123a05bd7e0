"""The `bundled` TLS engine: the OpenSSL that `cryptography` carries, called directly for every byte.

pyOpenSSL sets the contexts up; its connections copy too much, so that `SSL_read`, `SSL_write` and the memory
BIOs are called as pyOpenSSL itself would, on the callers' own buffers. These names are no public interface:
`missing_names` says what a version lacks, and `select` proves the engine before it is used.

No callback of pyOpenSSL's is used, because cffi must write and execute memory for one, which a hardened unit
forbids. The one that TLS needs (ALPN on the server) is made by ctypes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto
from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _lib

from hostmesh.model.identity import Credentials
from hostmesh.transport.tls import reasons
from hostmesh.transport.tls.engine import ALPN, CIPHER_SUITES, TlsClosed, TlsError, TlsTruncated

# cffi has no types
ffi: Final[Any] = _ffi
lib: Final[Any] = _lib

_OUT_SIZE = (1 << 20) + (1 << 17)
"""What one turn of a tunnel makes: 1 MiB of plaintext, its records' overhead, and control frames."""
_SPARE_BUFFERS = 4
_PIECE = 1 << 18
"""Plaintext given to the library at once: bounds what a connection's BIO keeps, and larger ones are slower."""
_SSL_MODE_NO_AUTO_CHAIN = 0x8
"""Send the chain as it is: without it OpenSSL verifies our own chain at each handshake and sends the root too."""

_NAMES = (
    "BIO_free",
    "BIO_new",
    "BIO_read",
    "BIO_s_mem",
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


class BundledTls:
    """The provider `bundled`."""

    name = "bundled"

    def __init__(self) -> None:
        self.library = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()
        self._buffers = _Buffers()

    def server_context(self, credentials: Credentials) -> BundledContext:
        """See `TlsProvider`."""
        return BundledContext(credentials, self._buffers, server_side=True)

    def client_context(self, credentials: Credentials) -> BundledContext:
        """See `TlsProvider`."""
        return BundledContext(credentials, self._buffers, server_side=False)


class BundledContext:
    """One identity's side, as server or client."""

    __slots__ = ("_buffers", "_context", "_server_side")

    def __init__(self, credentials: Credentials, buffers: _Buffers, *, server_side: bool) -> None:
        self._context = _context(credentials, server_side=server_side)
        self._buffers = buffers
        self._server_side = server_side

    def engine(self, server_name: str | None = None) -> BundledEngine:
        """See `ServerContext` and `ClientContext`."""
        return BundledEngine(self._context, self._buffers, self._server_side, server_name)


class _Buffer:
    """Memory for ciphertext on its way out, with the address that the library writes to."""

    __slots__ = ("address", "size", "view")

    def __init__(self, size: int) -> None:
        self.size = size
        self.view = memoryview(bytearray(size))
        self.address = ffi.from_buffer(self.view)


class _Buffers:
    """Output buffers that no engine holds: idle connections have none, the last one used is the warmest."""

    __slots__ = ("_spare", "next")

    def __init__(self) -> None:
        self.next = _Buffer(_OUT_SIZE)
        self._spare: list[_Buffer] = []

    def take(self) -> _Buffer:
        """`next`, which somebody has written to."""
        taken, self.next = self.next, self._spare.pop() if self._spare else _Buffer(_OUT_SIZE)
        return taken

    def give(self, buffer: _Buffer) -> None:
        """A buffer that is free again."""
        if buffer.size == _OUT_SIZE:
            if len(self._spare) < _SPARE_BUFFERS:
                self._spare.append(self.next)
            self.next = buffer


class BundledEngine:
    """One connection over two memory BIOs.

    An output buffer belongs to the engine from the moment `pending_out` finds something until all of it is sent.
    """

    __slots__ = (
        "_buffer",
        "_buffers",
        "_closed",
        "_context",
        "_done",
        "_end",
        "_eof",
        "_failed",
        "_in",
        "_out",
        "_ssl",
        "_start",
    )

    def __init__(self, context: SSL.Context, buffers: _Buffers, server_side: bool, server_name: str | None) -> None:
        self._context = context
        self._buffers = buffers
        self._buffer: _Buffer | None = None
        self._start = self._end = 0
        self._failed: Callable[[], Exception] | None = None
        self._done = False
        self._eof = False
        self._closed = False
        self._ssl = ssl = ffi.gc(lib.SSL_new(context._context), lib.SSL_free)  # noqa: SLF001  see the module
        lib.SSL_clear_mode(ssl, lib.SSL_MODE_ENABLE_PARTIAL_WRITE)  # pyOpenSSL's; a write would stop at one record
        self._in = lib.BIO_new(lib.BIO_s_mem())
        self._out = lib.BIO_new(lib.BIO_s_mem())
        lib.SSL_set_bio(ssl, self._in, self._out)  # frees them with the connection
        if server_side:
            lib.SSL_set_accept_state(ssl)
        else:
            lib.SSL_set_connect_state(ssl)
            if server_name is not None:
                lib.SSL_set_tlsext_host_name(ssl, server_name.encode("ascii"))

    def feed(self, data: memoryview) -> None:
        """See `Engine`."""
        if len(data) and lib.BIO_write(self._in, ffi.from_buffer(data), len(data)) != len(data):
            raise MemoryError("no memory for what a peer sent")

    def feed_eof(self) -> None:
        """See `Engine`."""
        self._eof = True

    def handshake(self) -> bool:
        """See `Engine`."""
        if self._done:
            return True
        if self._failed is not None:
            raise self._failed()
        result = lib.SSL_do_handshake(self._ssl)
        if result != 1:
            if lib.SSL_get_error(self._ssl, result) != lib.SSL_ERROR_WANT_READ:
                raise self._fail(self._explain())
            if self._eof:
                raise self._fail(partial(TlsTruncated, reasons.TRUNCATED_HANDSHAKE))
            return False
        if self.alpn != ALPN:
            raise self._fail(partial(TlsError, reasons.NO_ALPN))
        self._done = True
        return True

    def read_into(self, view: memoryview) -> int:
        """See `Engine`."""
        if self._failed is not None:
            raise self._failed()
        if not self._done:
            raise TlsError(reasons.UNFINISHED)
        read, ssl, room = lib.SSL_read, self._ssl, len(view)
        address = ffi.from_buffer(view)
        total = read(ssl, address, room) if room else 0  # at most one record
        if total > 0:
            while total < room:
                n = read(ssl, address + total, room - total)
                if n <= 0:
                    self._stopped(n)
                    return total
                total += n
            return total
        if room:
            self._stopped(total)
            if self._failed is not None:
                raise self._failed()
        return 0

    def write(self, data: memoryview) -> None:
        """See `Engine`. In pieces that stay in the processor's cache on their way through the library."""
        if not self._done:
            raise TlsError(reasons.UNFINISHED)
        if self._closed:
            raise TlsError(reasons.WRITE_AFTER_CLOSE)
        size = len(data)
        if not size:
            return
        address = ffi.from_buffer(data)
        while size > _PIECE:
            self._write(address, _PIECE)
            self._drain()
            address += _PIECE
            size -= _PIECE
        self._write(address, size)

    def pending_out(self) -> memoryview:
        """See `Engine`."""
        self._drain()
        buffer = self._buffer
        return memoryview(b"") if buffer is None else buffer.view[self._start : self._end]

    def sent(self, n: int) -> None:
        """See `Engine`."""
        self._start += n
        assert self._start <= self._end
        if self._start == self._end and self._buffer is not None:
            self._buffers.give(self._buffer)
            self._buffer = None
            self._start = self._end = 0

    def close(self) -> None:
        """See `Engine`."""
        if self._done and not self._closed:
            self._closed = True
            if lib.SSL_shutdown(self._ssl) < 0:
                lib.ERR_clear_error()

    @property
    def peer_chain(self) -> list[bytes]:
        """See `Engine`."""
        leaf = lib.SSL_get_peer_certificate(self._ssl)
        if leaf == ffi.NULL:
            return []
        chain = [_der(leaf)]
        lib.X509_free(leaf)
        sent = lib.SSL_get_peer_cert_chain(self._ssl)
        if sent != ffi.NULL:
            others = [_der(lib.sk_X509_value(sent, i)) for i in range(lib.sk_X509_num(sent))]
            chain += [der for der in others if der != chain[0]]  # a client's list begins with the leaf
        return chain

    @property
    def alpn(self) -> str | None:
        """See `Engine`."""
        name, length = ffi.new("unsigned char **"), ffi.new("unsigned int *")
        lib.SSL_get0_alpn_selected(self._ssl, name, length)
        return bytes(ffi.buffer(name[0], length[0])).decode("latin-1") if length[0] else None

    @property
    def cipher(self) -> str:
        """See `Engine`."""
        cipher = lib.SSL_get_current_cipher(self._ssl)
        return "" if cipher == ffi.NULL else ffi.string(lib.SSL_CIPHER_get_name(cipher)).decode()

    @property
    def version(self) -> str:
        """See `Engine`."""
        version: str = ffi.string(lib.SSL_get_version(self._ssl)).decode()
        return version

    def _write(self, address: Any, size: int) -> None:  # noqa: ANN401  cffi
        if lib.SSL_write(self._ssl, address, size) != size:
            raise self._fail(self._explain())

    def _drain(self) -> None:
        """Move what the library made behind what waits in the buffer."""
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffers.next
            n = lib.BIO_read(self._out, buffer.address, buffer.size)
            if n <= 0:
                return
            self._buffer = self._buffers.take()
            self._end = n
        else:
            n = lib.BIO_read(self._out, buffer.address + self._end, buffer.size - self._end)
            if n > 0:
                self._end += n
        while self._end == buffer.size:
            self._buffer = buffer = self._grown(buffer)
            n = lib.BIO_read(self._out, buffer.address + self._end, buffer.size - self._end)
            self._end += max(n, 0)

    def _grown(self, buffer: _Buffer) -> _Buffer:
        """The buffer is full, because its owner writes while it cannot send: go on with a larger one."""
        larger = _Buffer(2 * buffer.size)
        waiting = self._end - self._start
        larger.view[:waiting] = buffer.view[self._start : self._end]
        self._buffers.give(buffer)
        self._start, self._end = 0, waiting
        return larger

    def _stopped(self, result: int) -> None:
        """Why `SSL_read` gave nothing: remember an end, so that it is told after the bytes before it."""
        error = lib.SSL_get_error(self._ssl, result)
        if error == lib.SSL_ERROR_WANT_READ:
            if self._eof:
                self._failed = partial(TlsTruncated, reasons.TRUNCATED)
        elif error == lib.SSL_ERROR_ZERO_RETURN:
            self._failed = TlsClosed
        else:
            self._failed = self._explain()

    def _explain(self) -> Callable[[], TlsError]:
        code = lib.ERR_get_error()
        lib.ERR_clear_error()  # what stays would be taken for the next connection's
        text = lib.ERR_reason_error_string(code) if code else ffi.NULL
        reason = "" if text == ffi.NULL else ffi.string(text).decode()
        verify = lib.SSL_get_verify_result(self._ssl)
        verify_text = ffi.string(lib.X509_verify_cert_error_string(verify)).decode()
        return partial(TlsError, reasons.explain(reason, verify, verify_text))

    def _fail(self, failure: Callable[[], Exception]) -> Exception:
        """Remember a failure without its traceback, which would tie the engine to itself until the collector comes."""
        self._failed = failure
        return failure()


def _context(credentials: Credentials, *, server_side: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD if server_side else SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_mode(_SSL_MODE_NO_AUTO_CHAIN)
    handle = context._context  # noqa: SLF001  see the module
    if lib.SSL_CTX_set_ciphersuites(handle, CIPHER_SUITES.encode()) != 1:
        lib.ERR_clear_error()
        raise TlsError(f"the TLS library does not have {CIPHER_SUITES}")
    if server_side:
        lib.SSL_CTX_set_alpn_select_cb(handle, _ALPN_CALLBACK, ffi.NULL)
    else:
        context.set_alpn_protos([ALPN.encode()])
    _load_roots(context, credentials)
    _load_chain(context, credentials)
    lib.ERR_clear_error()  # parsers may leave what they tried in vain; a connection would take it for its own
    return context


def _load_roots(context: SSL.Context, credentials: Credentials) -> None:
    try:
        roots = x509.load_pem_x509_certificates(credentials.roots_pem)
    except ValueError as error:
        raise TlsError(f"root certificates of {credentials.identity} are not usable: {error}") from error
    store = context.get_cert_store()
    assert store is not None
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # every certificate of the roots is an anchor, as in rustls
    for root in roots:
        store.add_cert(crypto.X509.from_cryptography(root))


def _load_chain(context: SSL.Context, credentials: Credentials) -> None:
    try:
        leaf, *intermediates = x509.load_pem_x509_certificates(credentials.chain_pem)
        key = serialization.load_pem_private_key(credentials.key_pem, None)
        context.use_certificate(leaf)
        context.use_privatekey(key)  # type: ignore[arg-type]
        context.check_privatekey()
        for certificate in intermediates:
            context.add_extra_chain_cert(certificate)
    except (ValueError, TypeError, SSL.Error) as error:
        raise TlsError(f"certificate or key of {credentials.identity} is not usable: {error}") from error


def _der(certificate: Any) -> bytes:  # noqa: ANN401  cffi
    bio = lib.BIO_new(lib.BIO_s_mem())
    try:
        assert lib.i2d_X509_bio(bio, certificate) == 1
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
        if names[position + 1 : end] == b"h2":
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
_ALPN_CALLBACK = ffi.cast(
    ffi.typeof(lib.SSL_CTX_set_alpn_select_cb).args[1], ctypes.cast(_ALPN_FUNCTION, ctypes.c_void_p).value
)
