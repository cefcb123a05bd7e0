"""Which TLS engine a process uses."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from hostmesh.model.identity import Credentials
from hostmesh.transport.tls import openssl, select
from hostmesh.transport.tls.bundled import BundledTls
from hostmesh.transport.tls.engine import ClientContext, ServerContext, TlsError
from hostmesh.transport.tls.select import EngineUnusable, provider, self_test
from hostmesh.transport.tls.system import SystemTls

HARDENED = """
import ctypes, OpenSSL.SSL
from hostmesh.transport.tls.select import provider
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
try:
    OpenSSL.SSL.Context(OpenSSL.SSL.TLS_METHOD).set_verify(OpenSSL.SSL.VERIFY_PEER, lambda *_: True)
except MemoryError:
    print("callbacks impossible,", provider("bundled").name, "works")
"""


def test_the_bundled_engine_works_where_memory_is_never_written_and_executed() -> None:
    """MemoryDenyWriteExecute=yes of the worker's unit, in a process of its own; there cffi's callbacks do not work."""
    run = subprocess.run([sys.executable, "-c", HARDENED], capture_output=True, text=True, check=True)
    assert run.stdout == "callbacks impossible, bundled works\n"


@pytest.mark.parametrize(("setting", "name"), [("auto", "bundled"), ("bundled", "bundled"), ("system", "system")])
def test_the_setting_chooses(setting: str, name: str) -> None:
    """`auto` is the faster one where it works."""
    chosen = provider(setting)
    assert chosen.name == name
    assert "OpenSSL" in chosen.library


def test_another_setting_is_refused_with_those_there_are() -> None:
    """A user's mistake."""
    with pytest.raises(ValueError, match=r"tls\.engine is 'openssl'; it can be auto, bundled, system"):
        provider("openssl")


def lacks_a_name(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(openssl, "missing_names", lambda: ["SSL_write"])
    return "lacks SSL_write in the installed cryptography"


def cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "hostmesh.transport.tls.bundled", None)
    return "bundled cannot be loaded: ModuleNotFoundError"


def fails_its_test(monkeypatch: pytest.MonkeyPatch) -> str:
    def refuse(self: BundledTls, credentials: Credentials) -> None:
        raise MemoryError("Cannot allocate write+execute memory")

    monkeypatch.setattr(BundledTls, "server_context", refuse)
    return "fails its self-test: Cannot allocate write"


@pytest.mark.parametrize("fault", [lacks_a_name, cannot_be_imported, fails_its_test])
def test_auto_falls_back_and_says_why(
    fault: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning; asked for by name, the same fault is an error that names the other settings."""
    reason = fault(monkeypatch)  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        assert provider("auto").name == "system"
    assert reason in caplog.text
    with pytest.raises(EngineUnusable, match=r"Set tls\.engine to auto or system") as refusal:
        provider("bundled")
    assert reason in str(refusal.value)


class Mixed:
    """A provider whose servers are of another library: the wire between them is the same."""

    name = "mixed"
    library = "two"

    def client_context(self, credentials: Credentials) -> ClientContext:
        return BundledTls().client_context(credentials)

    def server_context(self, credentials: Credentials) -> ServerContext:
        return SystemTls().server_context(credentials)


def test_the_self_test_passes_for_what_works() -> None:
    """Also across libraries."""
    self_test(Mixed())


def test_the_self_test_sees_bytes_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """One record each way is compared."""

    def swallow(self: object, view: memoryview) -> int:
        return 0

    monkeypatch.setattr("hostmesh.transport.tls.system.SystemEngine.read_into", swallow)
    with pytest.raises(TlsError, match="what arrives is not what was sent"):
        self_test(SystemTls())


def test_the_self_test_sees_a_handshake_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not wait for ever at start."""
    monkeypatch.setattr("hostmesh.transport.tls.system.SystemEngine.handshake", lambda _: False)
    with pytest.raises(TlsError, match="does not come to an end"):
        self_test(SystemTls())


def test_the_certificates_of_the_self_test_are_thrown_away() -> None:
    """Each process makes its own."""
    assert select._throwaway_credentials().key_pem != select._throwaway_credentials().key_pem
