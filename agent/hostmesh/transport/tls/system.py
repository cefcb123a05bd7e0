"""The `system` TLS engine: the standard library's `ssl` on memory buffers, with the distribution's OpenSSL."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from hostmesh.model.identity import Credentials
from hostmesh.transport.tls import reasons
from hostmesh.transport.tls.engine import ALPN, CIPHER_SUITES, RECORD_SIZE, Engine, TlsClosed, TlsError, TlsTruncated

_SUITES = frozenset(CIPHER_SUITES.split(":"))
"""Compared after the handshake: this `ssl` cannot be told which suites of TLS 1.3 to offer."""


class SystemTls:
    """The provider `system`."""

    name = "system"
    library = ssl.OPENSSL_VERSION

    def server_context(self, credentials: Credentials) -> SystemContext:
        """See `TlsProvider`."""
        return SystemContext(credentials, server_side=True)

    def client_context(self, credentials: Credentials) -> SystemContext:
        """See `TlsProvider`."""
        return SystemContext(credentials, server_side=False)


class SystemContext:
    """One identity's side, as server or client."""

    __slots__ = ("_context", "_server_side")

    def __init__(self, credentials: Credentials, *, server_side: bool) -> None:
        self._context = _context(credentials, ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        self._server_side = server_side

    def engine(self, server_name: str | None = None) -> SystemEngine:
        """See `ServerContext` and `ClientContext`."""
        return SystemEngine(self._context, self._server_side, server_name)


class SystemEngine(Engine):
    """One connection over `ssl.SSLObject`.

    The object behind it is used directly: its `read` fills the caller's buffer without the layer that looks at
    every call's arguments again.
    """

    __slots__ = ("_closed", "_done", "_eof", "_failed", "_in", "_out", "_pending", "_read_ahead", "_ssl", "_tls")

    def __init__(self, context: ssl.SSLContext, server_side: bool, server_name: str | None) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=server_name)
        self._ssl: Any = self._tls._sslobj  # type: ignore[attr-defined]  # noqa: SLF001  see the class
        self._pending = memoryview(b"")
        self._read_ahead = bytearray()
        self._failed: Callable[[], Exception] | None = None
        self._done = False
        self._eof = False
        self._closed = False

    def feed(self, data: memoryview) -> None:
        """See `Engine`."""
        self._in.write(data)

    def lend(self, data: memoryview, size: int) -> None:
        """See `Engine`: this library takes a copy."""
        self._in.write(data[:size])

    def feed_eof(self) -> None:
        """See `Engine`."""
        self._eof = True

    def handshake(self) -> bool:
        """See `Engine`."""
        if self._done:
            return True
        if self._failed is not None:
            raise self._failed()
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            if self._eof:
                raise self._fail(partial(TlsTruncated, reasons.TRUNCATED_HANDSHAKE)) from None
            return False
        except (ssl.SSLError, OSError) as error:
            raise self._fail(_explain(error)) from None
        if self.alpn != ALPN:
            raise self._fail(partial(TlsError, reasons.NO_ALPN))
        if self.cipher not in _SUITES:
            reason = f"the peer chose the TLS cipher suite {self.cipher}, which is not allowed"
            raise self._fail(partial(TlsError, reason))
        self._done = True
        return True

    def read_into(self, view: memoryview) -> int:
        """See `Engine`."""
        if self._read_ahead and len(view):
            n = min(len(view), len(self._read_ahead))
            view[:n] = self._read_ahead[:n]
            del self._read_ahead[:n]
            return n
        if not self._done:
            raise self._failed() if self._failed else TlsError(reasons.UNFINISHED)
        total = 0 if self._failed is not None else self._decrypt_into(view)
        if total == 0 and self._failed is not None:
            raise self._failed()
        return total

    @property
    def ended(self) -> bool:
        """See `Engine`."""
        return self._failed is not None

    def write(self, data: memoryview) -> None:
        """See `Engine`."""
        if not self._done:
            raise TlsError(reasons.UNFINISHED)
        if self._closed:
            raise TlsError(reasons.WRITE_AFTER_CLOSE)
        try:
            while len(data):
                data = data[self._ssl.write(data) :]
        except (ssl.SSLError, OSError) as error:
            raise self._fail(_explain(error)) from None

    def pending_out(self) -> memoryview:
        """See `Engine`."""
        if self._out.pending:
            fresh = self._out.read()
            self._pending = memoryview(b"".join((self._pending, fresh)) if len(self._pending) else fresh)
        return self._pending[:]

    def sent(self, n: int) -> None:
        """See `Engine`."""
        assert n <= len(self._pending)
        self._pending = self._pending[n:]

    def close(self) -> None:
        """See `Engine`.

        The standard library's shutdown also looks for the peer's, and takes data that comes before it for an
        error: what was fed is therefore read first and kept for `read_into`.
        """
        if not self._done or self._closed:
            return
        self._closed = True
        piece = memoryview(bytearray(RECORD_SIZE))
        while self._failed is None and (n := self._decrypt_into(piece)):
            self._read_ahead += piece[:n]
        if self._failed is None or self._failed is TlsClosed:
            with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                self._ssl.shutdown()

    @property
    def peer_chain(self) -> list[bytes]:
        """See `Engine`."""
        chain = self._ssl.get_unverified_chain() or ()
        return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain]

    @property
    def alpn(self) -> str | None:
        """See `Engine`."""
        return self._tls.selected_alpn_protocol()

    @property
    def cipher(self) -> str:
        """See `Engine`."""
        cipher = self._tls.cipher()
        return cipher[0] if cipher else ""

    @property
    def version(self) -> str:
        """See `Engine`."""
        return self._tls.version() or ""

    def _decrypt_into(self, view: memoryview) -> int:
        """An end is remembered, so that it is told after the bytes before it."""
        read = self._ssl.read
        total, room = 0, len(view)
        try:
            while total < room:
                n = read(room - total, view[total:] if total else view)  # at most one record
                if n == 0:
                    self._failed = TlsClosed
                    break
                total += n
        except ssl.SSLWantReadError:
            if self._eof:
                self._failed = partial(TlsTruncated, reasons.TRUNCATED)
        except ssl.SSLZeroReturnError:
            self._failed = TlsClosed
        except (ssl.SSLError, OSError) as error:
            self._failed = _explain(error)
        return total

    def _fail(self, failure: Callable[[], Exception]) -> Exception:
        """Remember a failure without its traceback, which would tie the engine to itself until the collector comes."""
        self._failed = failure
        return failure()


def _context(credentials: Credentials, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # every certificate of the roots is an anchor, as in rustls
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    context.set_alpn_protocols([ALPN])
    try:
        context.load_verify_locations(cadata=credentials.roots_pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"root certificates of {credentials.identity} are not usable: {error}") from error
    try:
        _load_key(context, credentials)
    except ssl.SSLError as error:
        raise TlsError(f"certificate or key of {credentials.identity} is not usable: {error}") from error
    return context


def _load_key(context: ssl.SSLContext, credentials: Credentials) -> None:
    """Through a file in memory: the standard library reads keys from paths only, and keys never touch a disk."""
    descriptor = os.memfd_create("hostmesh-key", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=True) as file:
        file.write(credentials.chain_pem + credentials.key_pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")


def _explain(error: OSError) -> Callable[[], TlsError]:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    verify, verify_text = getattr(error, "verify_code", 0), getattr(error, "verify_message", "")
    return partial(TlsError, reasons.explain(reason, verify, verify_text))
