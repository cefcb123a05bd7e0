"""A process that asks servers without a pause, started in the cgroup and the network namespace of a workload.

Each request has a connection of its own; one more connection is kept for a second at a time. For each line on stdin it
says on stdout what it has done so far.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.support.netns import Cgroup, Namespace
from tests.support.patience import PATIENCE

PAUSE = 0.005
KEPT = 1.0


class Asking:
    """What the process does."""

    def __init__(self, targets: list[tuple[str, int]]) -> None:
        self.made = 0
        self.failures: list[str] = []
        self._targets = targets
        self._kept: socket.socket | None = None
        self._kept_since = 0.0

    def run(self) -> None:
        """Until stdin ends."""
        number = 0
        while True:
            target = self._targets[number % len(self._targets)]
            number += 1
            self._try("a new connection", target, self._ask_anew)
            self._try("a kept connection", target, self._ask_kept)
            readable, _, _ = select.select([sys.stdin], [], [], PAUSE)
            if readable:
                if not sys.stdin.readline():
                    return
                sys.stdout.write(json.dumps({"made": self.made, "failures": self.failures}) + "\n")
                sys.stdout.flush()

    def _try(self, what: str, target: tuple[str, int], ask: Any) -> None:
        try:
            ask(target)
        except OSError as error:
            self.failures.append(f"{time.time():.3f} {what} to {target[0]}:{target[1]}: {error!r}")
        self.made += 1

    def _ask_anew(self, target: tuple[str, int]) -> None:
        with socket.create_connection(target, PATIENCE) as sock:
            _ask(sock)

    def _ask_kept(self, target: tuple[str, int]) -> None:
        now = time.monotonic()
        if self._kept is None or now > self._kept_since + KEPT:
            self._drop()
            self._kept, self._kept_since = socket.create_connection(target, PATIENCE), now
        try:
            _ask(self._kept)
        except OSError:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def _ask(sock: socket.socket) -> None:
    sock.sendall(b"ping")
    answer = b""
    while len(answer) < 4:
        piece = sock.recv(4 - len(answer))
        if not piece:
            raise ConnectionError("closed before the answer")
        answer += piece


class Caller:
    """The process as a test sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def said(self) -> tuple[int, list[str]]:
        """How many requests so far, and what was wrong with those that failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        value = json.loads(self._process.stdout.readline())
        return int(value["made"]), list(value["failures"])

    def more(self, count: int = 20) -> None:
        """Wait until so many further requests are through."""
        goal = self.said()[0] + count
        while self.said()[0] < goal:
            time.sleep(0.02)


@contextmanager
def caller(where: Namespace, cgroup: Cgroup, *targets: tuple[str, int]) -> Iterator[Caller]:
    """One that asks these in turn; it has ended afterwards."""
    words = [f"{address}:{port}" for address, port in targets]
    command = where.command(sys.executable, "-m", "tests.support.caller", *words)
    with cgroup.entered():
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield Caller(process)
        finally:
            with suppress(OSError):
                process.communicate(timeout=2 * PATIENCE)


def _target(word: str) -> tuple[str, int]:
    address, _, port = word.rpartition(":")
    return address, int(port)


if __name__ == "__main__":
    Asking([_target(word) for word in sys.argv[1:]]).run()
