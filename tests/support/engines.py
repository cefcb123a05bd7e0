"""TLS engines that talk in memory."""

from __future__ import annotations

from tests.support.pki import ALICE, BOB, Authority

from hostmesh.model.identity import Credentials
from hostmesh.transport.tls.engine import Engine, TlsError, TlsProvider

ROOT = Authority()
CLIENT = ROOT.issue(ALICE)
SERVER = ROOT.issue(BOB)


def carry(source: Engine, target: Engine) -> int:
    """Everything that `source` has to send goes to `target`."""
    total = 0
    while size := len(view := source.pending_out()):
        target.feed(view)
        source.sent(size)
        total += size
    return total


def shake(client: Engine, server: Engine) -> None:
    """Both handshakes to the end; alerts of a failing side reach the other before the error is raised."""
    for _ in range(8):
        failure = None
        done = []
        for engine, other in ((client, server), (server, client)):
            try:
                done.append(engine.handshake())
            except TlsError as error:
                failure = failure or error
            carry(engine, other)
        if failure is not None:
            raise failure
        if all(done):
            return
    raise AssertionError("the handshake does not end")


def connected(
    client_tls: TlsProvider, server_tls: TlsProvider, client: Credentials = CLIENT, server: Credentials = SERVER
) -> tuple[Engine, Engine]:
    """A client's and a server's engine after their handshake."""
    ends = client_tls.client_context(client).engine("b.example"), server_tls.server_context(server).engine()
    shake(*ends)
    return ends


def read_all(engine: Engine, room: int = 1 << 16) -> bytes:
    """The plaintext of all that it was fed."""
    view = memoryview(bytearray(room))
    got = bytearray()
    while n := engine.read_into(view):
        got += view[:n]
    return bytes(got)
