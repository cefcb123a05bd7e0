"""Which TLS engine a process uses, proved before it is used (`tls.engine: auto | bundled | system`)."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hostmesh.model.identity import Credentials, Identity
from hostmesh.transport.tls.engine import Engine, TlsError, TlsProvider

Setting = Literal["auto", "bundled", "system"]

_log = logging.getLogger(__name__)

_ROUNDS = 8
_RECORD = b"one record each way"
_SERVER_NAME = "self-test.hostmesh.internal"


class EngineUnusable(Exception):
    """The chosen engine does not work here; the text says why and what else to choose."""


def provider(setting: str = "auto") -> TlsProvider:
    """The engine that `setting` asks for, after a handshake, ALPN and data both ways in memory.

    `auto` takes `bundled`, and where that does not work `system`, with a warning that says why.

    Raises:
        ValueError: not one of the settings.
        EngineUnusable: the engine asked for does not work here.
    """
    if setting not in get_args(Setting):
        raise ValueError(f"tls.engine is {setting!r}; it can be {', '.join(get_args(Setting))}")
    if setting == "system":
        return _proved_system()
    try:
        return _proved_bundled()
    except EngineUnusable as error:
        if setting == "bundled":
            raise EngineUnusable(f"{error}. Set tls.engine to auto or system") from error
        _log.warning("TLS engine: %s; taking the system's instead, which is slower", error)
        return _proved_system()


def self_test(candidate: TlsProvider) -> None:
    """Do in memory what every connection does.

    Raises:
        TlsError: something is not as it must be; says what.
    """
    credentials = _throwaway_credentials()
    client = candidate.client_context(credentials).engine(_SERVER_NAME)
    server = candidate.server_context(credentials).engine()
    for _ in range(_ROUNDS):
        done = client.handshake()
        _carry(client, server)
        if server.handshake() and done:
            break
        _carry(server, client)
    else:
        raise TlsError("the handshake does not come to an end")
    _carry(server, client)
    if not client.alpn == server.alpn == "h2":
        raise TlsError(f"ALPN is {client.alpn} and {server.alpn} instead of h2")
    if not client.peer_chain or client.peer_chain[0] != server.peer_chain[0]:
        raise TlsError("the peers do not see each other's certificate")
    _exchange(client, server)
    _exchange(server, client)


def _proved_bundled() -> TlsProvider:
    """Imported here, because another version of the library may not even import."""
    try:
        from hostmesh.transport.tls.openssl import missing_names

        if missing := missing_names():
            raise EngineUnusable(f"bundled lacks {', '.join(missing)} in the installed cryptography")
        from hostmesh.transport.tls.bundled import BundledTls
    except (ImportError, AttributeError, MemoryError, OSError, TypeError) as error:
        raise EngineUnusable(f"bundled cannot be loaded: {type(error).__name__}: {error}") from error
    return _proved(BundledTls())


def _proved_system() -> TlsProvider:
    """Imported here, because the system's OpenSSL is some megabytes that the bundled engine does without."""
    from hostmesh.transport.tls.system import SystemTls

    return _proved(SystemTls())


def _proved(candidate: TlsProvider) -> TlsProvider:
    try:
        self_test(candidate)
    except (TlsError, OSError, MemoryError, AttributeError, TypeError) as error:
        raise EngineUnusable(f"{candidate.name} ({candidate.library}) fails its self-test: {error}") from error
    return candidate


def _carry(source: Engine, target: Engine) -> None:
    while len(view := source.pending_out()):
        target.feed(view)
        source.sent(len(view))


def _exchange(sender: Engine, receiver: Engine) -> None:
    sender.write(memoryview(_RECORD))
    _carry(sender, receiver)
    room = bytearray(2 * len(_RECORD))
    n = receiver.read_into(memoryview(room))
    if room[:n] != _RECORD:
        raise TlsError("what arrives is not what was sent")


def _throwaway_credentials() -> Credentials:
    """A certificate that is its own root, for this process only."""
    identity = Identity("self-test", "hostmesh", "hostmesh")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hostmesh self-test")])
    now = dt.datetime.now(dt.UTC)
    start, end = now - dt.timedelta(days=1), now + dt.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(start).not_valid_after(end)
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    pem = builder.add_extension(san, critical=True).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Credentials(identity, private, pem, pem, start.timestamp(), end.timestamp(), 1)
