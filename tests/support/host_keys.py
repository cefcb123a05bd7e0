"""SSH host keys for tests, in memory: what hostmesh-host-key does, without its process."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from hostmesh.enrolment.host_key_helper import serve
from hostmesh.wire.host_proof import NAMESPACE, Statement
from hostmesh.wire.ssh_key import SshPublicKey
from hostmesh.wire.sshsig import PrivateKey, public_part, sign


class HostKeys:
    """Of one host: an ed25519 and an ecdsa key. `signed` counts."""

    def __init__(self) -> None:
        self.private: list[PrivateKey] = [
            ed25519.Ed25519PrivateKey.generate(),
            ec.generate_private_key(ec.SECP256R1()),
        ]
        self.signed = 0

    @property
    def public(self) -> list[SshPublicKey]:
        return [public_part(key) for key in self.private]

    async def sign(self, statement: Statement) -> tuple[bytes, ...]:
        self.signed += 1
        return tuple(sign(key, NAMESPACE, statement.encode()) for key in self.private)

    def pem(self) -> list[bytes]:
        """As they lie in /etc/ssh."""
        none = serialization.NoEncryption()
        return [
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, none)
            for key in self.private
        ]


@contextmanager
def running_helper(directory: Path, keys: HostKeys, users: frozenset[int] | None = None) -> Iterator[Path]:
    """hostmesh-host-key in a thread, with these keys in files; where it listens."""
    path, files = directory / "host-key.sock", []
    for number, pem in enumerate(keys.pem()):
        files.append(directory / f"ssh_host_{number}_key")
        files[-1].write_bytes(pem)
    files.append(directory / "ssh_host_missing_key")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        asked = frozenset({os.getuid()}) if users is None else users
        stopping = threading.Event()

        def keep_serving() -> None:
            while not stopping.is_set():
                serve(listener, asked, files, 0.1)

        thread = threading.Thread(target=keep_serving, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            stopping.set()
            thread.join(5)
