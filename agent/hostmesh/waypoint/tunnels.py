"""Whose tunnels are open, as Envoy reports them, so that those of the revoked can be closed at once.

Envoy judges a certificate when a connection begins, and closes none for what it learns later. So it writes a line into
a named pipe for each tunnel that it accepts or opens, with the address and the certificate of the peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from hostmesh.model.identity import Identity
from hostmesh.model.trust import CertificateKey, TrustBundle
from hostmesh.waypoint.shape import Json, typed
from hostmesh.wire.x509 import BadCertificate, certificate_key, spiffe_identities

FILE = "tunnels"
FLUSH_MILLISECONDS = 100
_MOST = 1 << 16
"""Peers that are remembered; the oldest are forgotten first."""

_MOST_READ = 1 << 20

ACCEPTED, OPENED = "accepted", "opened"
"""An accepted tunnel is known by its peer's address, an opened one by its own."""

Peer = tuple[str, str]
"""One of the two, and that address."""

Close = Callable[[Collection[Peer], bool], bool]
"""Peers, and whether they must be closed at any price: Envoy may not refuse them yet. The answer: whether they are."""


def report(side: str, directory: str) -> Json:
    """Envoy's access log that tells of each tunnel: for the listener that ends them, or the one that begins them."""
    moment, address, certificate = {
        ACCEPTED: ("DownstreamStart", "DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_PEER_CERT"),
        OPENED: ("TcpUpstreamConnected", "UPSTREAM_LOCAL_ADDRESS", "UPSTREAM_PEER_CERT"),
    }[side]
    made = typed(
        "envoy.access_loggers.file",
        "access_loggers.file.v3.FileAccessLog",
        path=f"{directory}/{FILE}",
        log_format={"text_format_source": {"inline_string": f"{side} %{address}% %{certificate}%\n"}},
    )
    return {**made, "filter": {"log_type_filter": {"types": [moment]}}}


@dataclass(frozen=True, slots=True)
class _Known:
    """What a peer's certificate says; `text` is the hash of how Envoy has written it."""

    text: int
    key: CertificateKey
    identities: tuple[Identity, ...]


class Tunnels:
    """Follows the reports; `run` reads them.

    Args:
        path: of the pipe; made if it is not there.
        close: closes the connections of these peers.
    """

    def __init__(self, path: Path, close: Close) -> None:
        self._close = close
        self._peers: dict[Peer, _Known] = {}
        self._rest = b""
        self._bundle: TrustBundle | None = None
        self._news = asyncio.Event()
        self._insist = False
        self._insist_again = False
        if not path.is_fifo():  # else an Envoy that is being replaced still writes to it
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o600)
        # for writing too: a pipe without a writer would report its end again and again
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    @property
    def known(self) -> frozenset[Peer]:
        """Who has been heard of and not been closed."""
        return frozenset(self._peers)

    def set_trust(self, bundle: TrustBundle) -> None:
        """Whose tunnels must not be open any more."""
        self._bundle = bundle
        self._insist = self._insist_again = True
        self._news.set()

    def close_again(self) -> None:
        """Look again: Envoy has a new configuration, and what came meanwhile came before it refused the revoked."""
        self._insist, self._insist_again = self._insist or self._insist_again, False
        self._news.set()

    async def run(self) -> None:
        """Read reports and close what must be closed, until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, self._read)
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                insist, self._insist = self._insist, False
                revoked = {peer: known for peer, known in self._peers.items() if self._is_revoked(known)}
                closed = await asyncio.to_thread(self._close, tuple(revoked), insist) if revoked else False
                for peer, known in revoked.items() if closed else ():
                    if self._peers.get(peer) is known:  # not reported anew meanwhile
                        del self._peers[peer]
        finally:
            loop.remove_reader(self._descriptor)
            os.close(self._descriptor)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = self._rest + os.read(self._descriptor, _MOST_READ)
            *lines, rest = data.split(b"\n")
            self._rest = rest[-_MOST_READ:]
            for line in lines:
                self._hear(line)

    def _hear(self, line: bytes) -> None:
        side, _, rest = line.decode(errors="replace").partition(" ")
        address, _, text = rest.partition(" ")
        peer, former = (side, address), self._peers.pop((side, address), None)
        known = former if former is not None and former.text == hash(text) else _read(text)
        if known is None:
            return  # a peer that has gone already is written without a certificate
        self._peers[peer] = known
        if len(self._peers) > _MOST:
            del self._peers[next(iter(self._peers))]
        if self._is_revoked(known):
            self._news.set()

    def _is_revoked(self, known: _Known) -> bool:
        return self._bundle is not None and self._bundle.revokes((known.key,), known.identities)


def _read(text: str) -> _Known | None:
    """A certificate as PEM in URL encoding."""
    try:
        der = ssl.PEM_cert_to_DER_cert(unquote(text))
        return _Known(hash(text), certificate_key(der), spiffe_identities(der))
    except (BadCertificate, ValueError):
        return None
