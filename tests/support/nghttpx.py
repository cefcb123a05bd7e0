"""nghttpx, the proxy of nghttp2, as HBONE server or client: its process, its files, and the plain proxy behind it."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.support.envoy import select_pause
from tests.support.patience import PATIENCE

from hostmesh.model.identity import Credentials


def write_credentials(directory: Path, own: Credentials) -> tuple[Path, Path, Path]:
    """Chain, key and roots as files."""
    paths = directory / "chain.pem", directory / "key.pem", directory / "roots.pem"
    for path, content in zip(paths, (own.chain_pem, own.key_pem, own.roots_pem), strict=True):
        path.write_bytes(content)
    return paths


@contextmanager
def running(arguments: list[str], address: tuple[str, int], log: Path) -> Iterator[None]:
    """Start it, wait until it listens on `address`, end it with the context."""
    command = [
        "nghttpx",
        "--conf=/dev/null",
        "--workers=1",
        "--no-ocsp",
        "--backend-connections-per-host=200",
        *arguments,
    ]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    socket.create_connection(address, 1).close()
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    select_pause(0.02)
            yield
        finally:
            process.terminate()


@contextmanager
def server(address: tuple[str, int], own: Credentials, directory: Path) -> Iterator[None]:
    """HBONE on `address`: mutual TLS 1.3, and every CONNECT goes on to where its authority says."""
    chain, key, roots = write_credentials(directory, own)
    with ConnectProxy() as behind:
        arguments = [
            "--http2-proxy",
            f"--frontend={address[0]},{address[1]}",
            f"--backend=127.0.0.1,{behind.port};;proto=http/1.1",
            "--verify-client",
            f"--verify-client-cacert={roots}",
            "--tls-min-proto-version=TLSv1.3",
            str(key),
            str(chain),
        ]
        with running(arguments, address, directory / "nghttpx.log"):
            yield


@contextmanager
def client(listen: int, target: tuple[str, int], own: Credentials, directory: Path) -> Iterator[None]:
    """HTTP/1.1 CONNECT on loopback goes through HTTP/2 and mutual TLS to `target`. It knows no SPIFFE: `--insecure`."""
    chain, key, _ = write_credentials(directory, own)
    address = ("127.0.0.1", listen)
    arguments = [
        "--http2-proxy",
        f"--frontend=127.0.0.1,{listen};no-tls",
        f"--backend={target[0]},{target[1]};;proto=h2;tls",
        "--insecure",
        f"--client-cert-file={chain}",
        f"--client-private-key-file={key}",
    ]
    with running(arguments, address, directory / "nghttpx.log"):
        yield


def connect(listen: int, authority: str) -> tuple[str, socket.socket]:
    """CONNECT in HTTP/1.1: the status, and what is behind it."""
    sock = socket.create_connection(("127.0.0.1", listen), PATIENCE)
    sock.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    return _head(sock).split()[1], sock


class ConnectProxy:
    """A forward proxy that only knows CONNECT, in HTTP/1.1; cuts what is left when it is closed."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            host, _, port = _head(sock).split()[1].rpartition(":")
            with socket.create_connection((host, int(port)), PATIENCE) as target:
                sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_carry, args=(target, sock), daemon=True)
                back.start()
                _carry(sock, target)
                back.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)


def _head(sock: socket.socket) -> str:
    """A message's head, byte by byte so that nothing behind it is taken."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise ConnectionError(f"closed after {head!r}")
        head += byte
    return head.decode()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
