"""A foreign HBONE peer made of the `ssl` module and the `h2` library: well-behaved, or not, as a test wants."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
from tests.support.patience import PATIENCE

from hostmesh.model.identity import Credentials

Headers = list[tuple[str, str]]


def context(credentials: Credentials | None, roots: bytes, *, server: bool) -> ssl.SSLContext:
    """TLS as HBONE wants it; without credentials no certificate is shown."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=roots.decode())
    made.set_alpn_protocols(["h2"])
    if credentials is not None:
        with tempfile.TemporaryDirectory() as directory:
            chain, key = Path(directory, "chain"), Path(directory, "key")
            chain.write_bytes(credentials.chain_pem)
            key.write_bytes(credentials.key_pem)
            made.load_cert_chain(chain, key)
    return made


class Peer:
    """One end of a connection, used by one thread. Every wait has a limit."""

    def __init__(self, sock: ssl.SSLSocket, *, client: bool) -> None:
        self.sock = sock
        config = h2.config.H2Configuration(
            client_side=client,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.flush()
        self.events: list[h2.events.Event] = []

    def flush(self) -> None:
        """Send what h2 has to say."""
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def wait(self, kind: type, stream: int | None = None) -> h2.events.Event:
        """The next event of a kind (of a stream); others are kept. EOF raises ConnectionError."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    self.events.remove(event)
                    return event
            data = self.sock.recv(1 << 16)
            if not data:
                raise ConnectionError("peer closed")
            self.events += self.h2.receive_data(data)
            self.flush()

    def request(self, headers: Headers, *, end: bool = False) -> int:
        """Open a stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, headers, end_stream=end)
        self.flush()
        return stream

    def connect(self, authority: str, *extra: tuple[str, str]) -> int:
        """An HBONE request."""
        return self.request([(":method", "CONNECT"), (":authority", authority), *extra])

    def answer(self, stream: int) -> dict[str, str]:
        """The response's headers."""
        event = self.wait(h2.events.ResponseReceived, stream)
        return dict(event.headers)  # type: ignore[attr-defined]

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """A DATA frame."""
        self.h2.send_data(stream, data, end_stream=end)
        self.flush()

    def close(self) -> None:
        """Without a word."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def dial(address: tuple[str, int], credentials: Credentials | None, roots: bytes, name: str | None = None) -> Peer:
    """A client's end.

    Raises:
        OSError: the server refused, by alert or by closing.
    """
    raw = socket.create_connection(address, timeout=PATIENCE)
    try:
        sock = context(credentials, roots, server=False).wrap_socket(raw, server_hostname=name)
    except BaseException:
        raw.close()
        raise
    try:
        return Peer(sock, client=True)
    except BaseException:
        sock.close()  # it has taken the raw one's place
        raise


class PeerServer:
    """Accepts HBONE on an address; each connection runs `serve` in a thread."""

    def __init__(self, ip: str, credentials: Credentials, serve: Callable[[Peer, int], None]) -> None:
        self._context = context(credentials, credentials.roots_pem, server=True)
        self._serve = serve
        self._listener = socket.create_server((ip, 15008), backlog=128)
        self.accepted = 0
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            number = self.accepted
            self.accepted += 1
            thread = threading.Thread(target=self._run, args=(raw, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, raw: socket.socket, number: int) -> None:
        raw.settimeout(PATIENCE)
        try:
            with raw, self._context.wrap_socket(raw, server_side=True) as sock:
                self._serve(Peer(sock, client=False), number)
        except (ConnectionError, ssl.SSLError):
            return  # the client is gone, which a test may want
        except (AssertionError, TimeoutError) as error:
            self.failures.append(error)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not self.failures, self.failures

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def frame_types(said: bytes) -> set[bytes]:
    """Of the frames in it."""
    found, position = set(), 0
    while position + 9 <= len(said):
        found.add(said[position + 3 : position + 4])
        position += 9 + int.from_bytes(said[position : position + 3])
    return found
