"""A stream that its peer resets: half an answer never looks like a whole one (RFC 9113 §8.5)."""

from __future__ import annotations

import socket

import h2.events
import pytest
from h2.errors import ErrorCodes
from tests.support.foreign import Foreign
from tests.support.hbone_peer import Peer
from tests.support.proxy import receive_all

DONE = (ErrorCodes.NO_ERROR, ErrorCodes.CANCEL, ErrorCodes.STREAM_CLOSED)


def resets(code: ErrorCodes, *, ended: bool) -> Foreign:
    """A server that answers `half`, perhaps ends there, and resets the stream."""

    def serve(peer: Peer, number: int) -> None:
        del number
        peer.wait(h2.events.RequestReceived)
        peer.h2.send_headers(1, [(":status", "200")])
        peer.send(1, b"half", end=ended)
        peer.wait(h2.events.DataReceived)  # the application has it
        peer.h2.reset_stream(1, code)
        peer.flush()
        peer.wait(h2.events.ConnectionTerminated)

    return Foreign(serve)


@pytest.mark.parametrize("code", [*DONE, ErrorCodes.INTERNAL_ERROR])
def test_what_had_not_ended_is_torn_off(code: ErrorCodes) -> None:
    """Whatever the code: a late denial and a forced drain say CANCEL."""
    with resets(code, ended=False) as world, world.mesh.dial() as sock:
        assert sock.recv(64) == b"half"
        sock.sendall(b"more")
        with pytest.raises(ConnectionResetError):
            sock.recv(64)
        (record,) = world.mesh.client.main.wait_logs(1)
        assert dict(record.fields)["error"] == f"receive: stream error received: {code.name}"


@pytest.mark.parametrize("code", DONE)
def test_what_had_ended_is_whole(code: ErrorCodes) -> None:
    """The peer only takes no more."""
    with resets(code, ended=True) as world, world.mesh.dial() as sock:
        assert receive_all(sock) == b"half"
        sock.sendall(b"more")
        (record,) = world.mesh.client.main.wait_logs(1)
        assert "error" not in dict(record.fields)
        sock.shutdown(socket.SHUT_WR)
