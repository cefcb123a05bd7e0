"""Handshake: drives one TLS handshake over a registered socket, for either side."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from hostmesh.proxy.proof import Proof
from hostmesh.proxy.tls_socket import NOTHING_YET, TlsSocket
from hostmesh.transport.loop import Loop
from hostmesh.transport.tls.engine import Engine, TlsClosed, TlsError
from hostmesh.wire.x509 import BadCertificate, certificate_key, expires_at, spiffe_identities


class Handshake:
    """Owns the socket until `then` is called, with None when the engine is ready, else with the reason.

    After a failure the socket is closed. The caller bounds the time with `cancel`.
    """

    __slots__ = ("_loop", "_then", "tls")

    def __init__(self, loop: Loop, tls: TlsSocket, then: Callable[[Handshake, str | None], None]) -> None:
        self._loop = loop
        self.tls = tls
        self._then: Callable[[Handshake, str | None], None] | None = then

    def start(self, first: bytes = b"") -> None:
        """Begin; `first` is what was read from the peer already."""
        self._loop.replace_handler(self.tls.sock.fileno(), self._ready)
        if first:
            self.tls.engine.feed(memoryview(first))
        if self._step():
            self._read()

    def cancel(self, reason: str) -> None:
        """End it with a reason."""
        self._fail(reason)

    def _ready(self, mask: int) -> None:
        del mask
        if self.tls.blocked:
            self.tls.blocked = False
            self._send()
        self._read()

    def _read(self) -> None:
        tls = self.tls
        while self._then is not None:
            try:
                n = tls.receive()
            except OSError as error:
                self._fail(_reason(error))
                return
            if n == NOTHING_YET:
                return
            if n:
                tls.engine.feed(tls.ciphertext[:n])
            else:
                tls.engine.feed_eof()
            if not self._step() or not n:
                return

    def _step(self) -> bool:
        """Whether more is needed from the peer."""
        try:
            done = self.tls.engine.handshake()
        except (TlsError, TlsClosed) as error:
            self._send()  # the alert that tells the peer why
            self._fail(getattr(error, "reason", "closed by peer"))
            return False
        if not self._send():
            return False
        if not done:
            return True
        then, self._then = self._then, None
        if then is not None:
            then(self, None)
        return False

    def _send(self) -> bool:
        """Whether the connection lives."""
        try:
            self.tls.send()
        except OSError as error:
            self._fail(_reason(error))
            return False
        return True

    def _fail(self, reason: str) -> None:
        then, self._then = self._then, None
        if then is not None:
            self.tls.close()
            then(self, reason)


def verified_peer(engine: Engine) -> Proof:
    """What TLS has verified about the peer.

    Raises:
        TlsError: there is no leaf, or it cannot be read.
    """
    chain = engine.peer_chain
    if not chain:
        raise TlsError("peer sent no certificate")
    try:
        keys = tuple(certificate_key(der) for der in chain)
        return Proof(spiffe_identities(chain[0]), keys, expires_at(chain[0]))
    except BadCertificate as error:
        raise TlsError(str(error)) from error


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)
