"""Loopback addresses and ports that nobody else in this machine's tests has."""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import suppress

_addresses = itertools.count(1)
_ports = itertools.count(os.getpid() * 64)


def fresh_ip() -> str:
    """A loopback address of its own, because every inbound listens on 15008."""
    number = (os.getpid() << 8 | next(_addresses)) & 0xFFFFFF
    return f"127.{1 + (number >> 16) % 250}.{(number >> 8) % 250}.{1 + number % 250}"


def free_port() -> int:
    """A TCP port of loopback that nobody uses, nor gets by chance: it is below those that the kernel hands out."""
    while True:
        port = 20_000 + next(_ports) % 12_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
