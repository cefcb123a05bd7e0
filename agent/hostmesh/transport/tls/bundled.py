"""The `bundled` TLS engine: the OpenSSL that `cryptography` carries; pyOpenSSL sets the contexts up."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto

from hostmesh.model.identity import Credentials
from hostmesh.transport.tls.bundled_engine import Buffers, BundledEngine
from hostmesh.transport.tls.engine import ALPN, CIPHER_SUITES, TlsError
from hostmesh.transport.tls.openssl import ALPN_CALLBACK, SSL_MODE_NO_AUTO_CHAIN, ffi, lib


class BundledTls:
    """The provider `bundled`."""

    name = "bundled"

    def __init__(self) -> None:
        self.library = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()
        self._buffers = Buffers()

    def server_context(self, credentials: Credentials) -> BundledContext:
        """See `TlsProvider`."""
        return BundledContext(credentials, self._buffers, server_side=True)

    def client_context(self, credentials: Credentials) -> BundledContext:
        """See `TlsProvider`."""
        return BundledContext(credentials, self._buffers, server_side=False)


class BundledContext:
    """One identity's side, as server or client."""

    __slots__ = ("_buffers", "_context", "_server_side")

    def __init__(self, credentials: Credentials, buffers: Buffers, *, server_side: bool) -> None:
        self._context = _context(credentials, server_side=server_side)
        self._buffers = buffers
        self._server_side = server_side

    def engine(self, server_name: str | None = None) -> BundledEngine:
        """See `ServerContext` and `ClientContext`."""
        handle = self._context._context  # noqa: SLF001  pyOpenSSL has no public handle
        return BundledEngine(handle, self._buffers, self._server_side, server_name)


def _context(credentials: Credentials, *, server_side: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD if server_side else SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_mode(SSL_MODE_NO_AUTO_CHAIN)
    handle = context._context  # noqa: SLF001  pyOpenSSL has no public handle
    if lib.SSL_CTX_set_ciphersuites(handle, CIPHER_SUITES.encode()) != 1:
        lib.ERR_clear_error()
        raise TlsError(f"the TLS library does not have {CIPHER_SUITES}")
    if server_side:
        lib.SSL_CTX_set_alpn_select_cb(handle, ALPN_CALLBACK, ffi.NULL)
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
