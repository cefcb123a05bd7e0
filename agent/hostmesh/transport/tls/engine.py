"""What the proxy needs of a TLS library, over memory buffers (RFC 8446; settings as Istio's HBONE uses them).

TLS 1.3 only, AES-128-GCM and AES-256-GCM, ALPN exactly `h2`, certificates on both sides verified against the
roots of the credentials, no resumption, no host names: who the peer is, the caller reads from `peer_chain`.

The order of calls, for both roles::

    engine.feed(ciphertext); done = engine.handshake(); send(engine.pending_out())      # until done
    engine.feed(ciphertext); while (n := engine.read_into(view)): ...                   # 0: feed more
    engine.write(plaintext); n = send(engine.pending_out()); engine.sent(n)

After an exception `pending_out` may hold an alert that tells the peer why: send it, then close the socket.
With TLS 1.3 a client's handshake ends before the server has judged its certificate; a refusal arrives as
`TlsError` from the client's first `read_into`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, Protocol

from hostmesh.model.identity import Credentials

ALPN: Final = "h2"

RECORD_SIZE: Final = 1 << 14
"""Plaintext in a record at most (RFC 8446 §5.1)."""
RECORD_OVERHEAD: Final = 22
"""Header, content type and tag of a record without padding (RFC 8446 §5.2)."""
CIPHER_SUITES: Final = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"
"""In the order of preference, which is the client's: the shorter key is the faster one."""


class TlsError(Exception):
    """The connection cannot go on. `reason` is for people: one line, no stack of library codes."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TlsTruncated(TlsError):
    """The transport ended without the peer's close_notify: what came may not be all there was."""


class TlsClosed(Exception):
    """The peer said close_notify: everything it sent has been read."""


class Engine(ABC):
    """One connection. Not for threads. A class, and no protocol: the compiler calls its methods by their place."""

    __slots__ = ()

    @abstractmethod
    def feed(self, data: memoryview) -> None:
        """Take all of `data`, ciphertext from the peer; the buffer is the caller's again on return.

        The engine keeps what has not been read yet: read to 0 before feeding more to bound it.
        """

    @abstractmethod
    def lend(self, data: memoryview, size: int) -> None:
        """As `feed` of the first `size` bytes, but after the handshake, and the engine may read from the buffer itself.

        The caller leaves it as it is until `read_into` has returned less than it was asked for, or has failed, and
        feeds and lends nothing before. From then on bytes are lent only.
        """

    @abstractmethod
    def feed_eof(self) -> None:
        """The transport ended. What was fed before can still be read."""

    @abstractmethod
    def handshake(self) -> bool:
        """Go as far as the ciphertext allows; True once complete, also when called again.

        Raises:
            TlsError: refused by either side; see the module's note on alerts.
            TlsTruncated: the transport ended first.
        """

    @abstractmethod
    def read_into(self, view: memoryview) -> int:
        """Fill `view` with as much plaintext as there is; 0, or a part of it, means that more ciphertext is needed.

        Raises:
            TlsClosed: close_notify, after all plaintext was returned.
            TlsTruncated: the transport ended without one.
            TlsError: an alert, or bytes that are no valid TLS.
        """

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the next `read_into` will raise, because the end was met behind what the last one returned."""

    @abstractmethod
    def write(self, data: memoryview) -> None:
        """Encrypt all of `data` (any length) behind what waits in `pending_out`.

        Raises:
            TlsError: the handshake is not complete, or the connection has failed or was closed.
        """

    @abstractmethod
    def pending_out(self) -> memoryview:
        """Everything that must be sent now; valid until the next call of the engine. Empty when nothing waits."""

    @abstractmethod
    def sent(self, n: int) -> None:
        """The first `n` bytes of `pending_out` were taken by the transport."""

    @abstractmethod
    def close(self) -> None:
        """Queue close_notify, once; nothing can be written afterwards, reading goes on."""

    @property
    @abstractmethod
    def peer_chain(self) -> list[bytes]:
        """The peer's verified leaf first, then what else it sent if the library tells; DER. After the handshake."""

    @property
    @abstractmethod
    def alpn(self) -> str | None:
        """`h2` after the handshake."""

    @property
    @abstractmethod
    def cipher(self) -> str:
        """IANA name of the cipher suite, after the handshake; empty before."""

    @property
    @abstractmethod
    def version(self) -> str:
        """`TLSv1.3`."""


class ServerContext(Protocol):
    """One identity's server side; make engines from it until the credentials are renewed."""

    def engine(self) -> Engine:
        """A new connection's server side."""


class ClientContext(Protocol):
    """One identity's client side."""

    def engine(self, server_name: str | None = None) -> Engine:
        """A new connection's client side; `server_name` is sent as SNI and never compared with the certificate."""


class TlsProvider(Protocol):
    """A TLS library."""

    @property
    def name(self) -> str:
        """`bundled` or `system`."""

    @property
    def library(self) -> str:
        """Name and version of the library, for people."""

    def server_context(self, credentials: Credentials) -> ServerContext:
        """The server side of an identity.

        Raises:
            TlsError: the key, chain or roots are not usable; says which.
        """

    def client_context(self, credentials: Credentials) -> ClientContext:
        """The client side of an identity.

        Raises:
            TlsError: as for `server_context`.
        """
