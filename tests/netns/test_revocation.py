"""Revocation between whole agents under traffic: who is revoked is out within a second, and nobody else notices."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.agent import until
from tests.support.estate import Estate, ask, identity

if TYPE_CHECKING:
    from tests.netns.conftest import Lab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

ENDS = [("a1", "b1"), ("a1", "b2"), ("b1", "a1"), ("b2", "a1"), ("a2", "b1"), ("b1", "a2")]
"""Of connections that are open; the last two have nothing to do with a1."""

AT_ONCE = 9.0
"""Seconds: a bound for a busy machine, yet below whatever looks from time to time. How long it took is recorded."""

Record = Callable[[str, object], None]


class Streaming:
    """An open connection over which something goes all the time; knows when it was cut."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._stopping = threading.Event()
        self.cut: float | None = None

    @contextmanager
    def running(self) -> Iterator[Streaming]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(0.01):
                ask(self._sock)
        except OSError:
            self.cut = time.monotonic()


@pytest.mark.parametrize("by", ["identity", "serial"])
def test_who_is_revoked_is_cut_both_ways(lab: Lab, tmp_path: Path, by: str, record_property: Record) -> None:
    """Its streams as client and as server end, it reaches nobody and nobody it; everybody else goes on.

    An identity stays out until it is admitted again; the owner of a certificate gets another one by itself.
    """
    with ExitStack() as stack:
        estate = Estate(stack, lab, tmp_path, planes=[{}])
        with estate.traffic("a2", to=("b1", "b2")), estate.traffic("b2", to=("a2",)), ExitStack() as streams:
            made = [
                streams.enter_context(Streaming(estate.connect(client, server)).running())
                for client, server in (
                    ("a1", "b1"),
                    ("a1", "b2"),
                    ("b1", "a1"),
                    ("b2", "a1"),
                    ("a2", "b1"),
                    ("b1", "a2"),
                )
            ]
            doomed, spared = made[:4], made[4:]
            subject = identity("a1") if by == "identity" else f"{int(estate.serials(estate.agents[0])['a1']):x}"
            estate.command("ca", "revoke", f"--{by}", subject)
            revoked = time.monotonic()
            until(lambda: all(one.cut for one in doomed), AT_ONCE)
            slowest = max(one.cut or 0.0 for one in doomed) - revoked
            record_property("seconds", f"{slowest:.3f}")
            if by == "identity":
                assert not estate.reaches("a1", "b1")
                assert not estate.reaches("b1", "a1")
                estate.command("ca", "unrevoke", "--identity", subject)
            until(lambda: estate.reaches("a1", "b1") and estate.reaches("b1", "a1"))
            assert [one.cut for one in spared] == [None, None]
        until(lambda: any('response_flags="CERT_REVOKED"' in one.log for one in estate.agents))
