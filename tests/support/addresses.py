"""Loopback addresses that nobody else in this machine's tests has."""

from __future__ import annotations

import itertools
import os

_addresses = itertools.count(1)


def fresh_ip() -> str:
    """A loopback address of its own, because every inbound listens on 15008."""
    number = (os.getpid() << 8 | next(_addresses)) & 0xFFFFFF
    return f"127.{1 + (number >> 16) % 250}.{(number >> 8) % 250}.{1 + number % 250}"
