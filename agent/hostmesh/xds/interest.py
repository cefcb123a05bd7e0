"""Interest: the names that an on-demand subscription follows, from the first question until nobody uses them.

Sans I/O. A name is asked for once, however many connections wait for it; answered, it is known until it has not been
used for a while, or until others need its place. Nothing is known of a name that is only asked for.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable

from hostmesh.model.address import parse_ip
from hostmesh.model.service import hostname_of

MAX_NAMES = 16384
"""Known names; the one that was not used for the longest time makes room."""

MAX_ASKED = 4096
"""Names without an answer; more are refused."""

IDLE = 300.0
"""Seconds after which a name that nobody uses is let go."""

_MAX_LENGTH = 512


class NotAsked(Exception):
    """The control plane is not asked for it; the text says why."""


class Interest:
    """Names by their state.

    Args:
        own: followed always, and never told of as known.
    """

    def __init__(self, own: Iterable[str] = ()) -> None:
        self._own = tuple(own)
        self._known: OrderedDict[str, float] = OrderedDict()
        self._asked: dict[str, None] = {}
        self._to_subscribe: dict[str, None] = {}
        self._to_let_go: dict[str, None] = {}

    def restore(self, names: Iterable[str]) -> None:
        """What was known at an earlier start still is; how long it has not been used begins with the first use."""
        self._known.update((name, math.inf) for name in names if _is_name(name))

    @property
    def known(self) -> tuple[str, ...]:
        """What has been answered, and is followed."""
        return tuple(self._known)

    def knows(self, name: str) -> bool:
        """Whether it has been answered, and is followed."""
        return name in self._known

    def everything(self) -> list[str]:
        """All that a new stream subscribes to; nothing else is to be sent on it then."""
        self._to_subscribe.clear()
        self._to_let_go.clear()
        return [*self._own, *self._known, *self._asked]

    def want(self, name: str) -> bool:
        """Ask for a name that is not known. Returns whether the control plane must be told.

        Raises:
            NotAsked: it is no name, or too many others are being asked for.
        """
        if name in self._asked:
            return False
        if not _is_name(name):
            raise NotAsked("not an address of a network, nor a service of a namespace, nor a hostname")
        if len(self._asked) >= MAX_ASKED:
            raise NotAsked("the control plane is being asked for too many addresses and names")
        self._asked[name] = self._to_subscribe[name] = None
        return True

    def answered(self, names: Iterable[str], now: float) -> list[str]:
        """The control plane has spoken about these: those of them that were asked for are known now."""
        fresh = [name for name in names if name in self._asked]
        for name in fresh:
            del self._asked[name]
            self._known[name] = now
        return fresh

    def give_up(self, names: Iterable[str]) -> list[str]:
        """What came for these is not usable: those of them that were asked for are let go."""
        given_up = [name for name in names if name in self._asked]
        for name in given_up:
            del self._asked[name]
            self._let_go(name)
        return given_up

    def used(self, names: Iterable[str], now: float) -> None:
        """Connections went to these."""
        for name in names:
            if name in self._known:
                self._known[name] = now
                self._known.move_to_end(name)

    def expire(self, now: float) -> list[str]:
        """Let go what is not used; nobody may take those names for known any more."""
        gone = []
        while self._known:
            name, used = next(iter(self._known.items()))
            if used == math.inf:
                self._known.update((each, now) for each, when in self._known.items() if when == math.inf)
                continue
            if used + IDLE > now and len(self._known) <= MAX_NAMES:
                break
            del self._known[name]
            self._let_go(name)
            gone.append(name)
        return gone

    def news(self) -> tuple[list[str], list[str]]:
        """What the control plane has not been told: names to subscribe to, and to unsubscribe from."""
        found = list(self._to_subscribe), list(self._to_let_go)
        self._to_subscribe.clear()
        self._to_let_go.clear()
        return found

    def _let_go(self, name: str) -> None:
        self._to_subscribe.pop(name, None)
        self._to_let_go[name] = None


def _is_name(text: str) -> bool:
    """`network/ip`, `namespace/hostname` or the alias of a hostname, as far as it matters here."""
    before, separator, after = text.rpartition("/")
    if not separator or len(text) > _MAX_LENGTH or not after.isascii() or not after.isprintable() or "*" in before:
        return False
    if hostname_of(text):
        return True
    try:
        return str(parse_ip(after)) == after
    except ValueError:
        return bool(before) and "/" not in before and ":" not in after
