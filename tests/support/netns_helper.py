"""hostmesh-netns in a thread of the test: it enters namespaces with setns, which moves that thread only."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostmesh.enrolment.netns_client import NetnsHelper
from hostmesh.enrolment.netns_helper import serve


@contextmanager
def running_helper(directory: Path, users: frozenset[int] | None = None) -> Iterator[NetnsHelper]:
    """The helper serves at `directory`/netns until the block ends."""
    path = directory / "netns"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(16)
        asked = frozenset({os.getuid()}) if users is None else users
        stopping = threading.Event()

        def keep_serving() -> None:
            while not stopping.is_set():
                serve(listener, asked, 0.1)

        thread = threading.Thread(target=keep_serving, daemon=True)
        thread.start()
        try:
            yield NetnsHelper(path, timeout=5)
        finally:
            stopping.set()
            thread.join(5)
