"""Network namespaces as workloads: which ones are captured, and by which listeners (one owner of them all)."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from hostmesh.config.strict_yaml import Problem
from hostmesh.enrolment.netns_client import NetnsHelper
from hostmesh.enrolment.netns_messages import GATE, NAMES
from hostmesh.kernel import namespaces as kernel
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.plan import ListenerPorts

CHECKED_AT_ONCE = 8
"""Namespaces whose rules are looked at in one `reassert`; one costs some ten milliseconds."""


@dataclass(frozen=True, slots=True)
class CapturedNamespace:
    """A local workload and its namespace: what is mounted at `path`, or what `descriptor` is.

    `descriptor` stays its owner's, None means that the path is looked at. `addresses` are those it must have. `dns` is
    the port at which its questions about names are answered, 0 where they are not captured.
    """

    workload: LocalWorkload
    path: Path
    source: str
    line: int
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    descriptor: int | None = None
    dns: int = 0


@dataclass(frozen=True, slots=True)
class OpenNamespace:
    """A namespace as it is captured, found at `path`. `id` is of this one: another at the same path has another id.

    `names` are sockets where questions are answered, and `gate` is what sends them there.
    """

    id: int
    number: int
    descriptor: int
    inode: tuple[int, int]
    listeners: tuple[tuple[str, socket.socket], ...]
    digest: str
    excluded: tuple[int, ...]
    workload: LocalWorkload
    path: Path
    dns: int = 0
    names: tuple[socket.socket, ...] = ()
    gate: socket.socket | None = None

    def close(self) -> None:
        """Nothing of ours keeps the namespace alive."""
        os.close(self.descriptor)
        for sock in (*(sock for _, sock in self.listeners), *self.names, *([self.gate] if self.gate else [])):
            sock.close()


class Namespaces:
    """Blocking: an asyncio program calls it in threads; `supply` beside one of the others."""

    def __init__(
        self, helper: NetnsHelper, ports: ListenerPorts, socks5: int = 0, *, original_source: bool = False
    ) -> None:
        self._helper = helper
        self._ports = ports
        self._socks5 = socks5
        self._original_source = original_source
        self._lock = threading.Lock()
        self._open: dict[str, OpenNamespace] = {}
        self._wanted: tuple[CapturedNamespace, ...] = ()
        self._excluded: tuple[int, ...] = ()
        self._ids = itertools.count(1)
        self._next_check = 0
        self.problems: tuple[Problem, ...] = ()

    @property
    def open(self) -> tuple[OpenNamespace, ...]:
        """What is captured now."""
        with self._lock:
            return tuple(self._open.values())

    def is_open(self, key: str) -> bool:
        """Whether a workload's namespace is captured."""
        with self._lock:
            return key in self._open

    def refresh(self, wanted: Iterable[CapturedNamespace], excluded: Iterable[int] = ()) -> tuple[str, ...]:
        """Capture these namespaces and no others; one that cannot be is a problem, and stops no other.

        Args:
            wanted: at most one for each workload.
            excluded: ports never captured inbound.

        Returns:
            What was done, one line each.
        """
        self._wanted, self._excluded = tuple(wanted), tuple(sorted(set(excluded)))
        kept = {one.workload.key for one in self._wanted}
        changes = [self._withdraw(key) for key in list(self._open) if key not in kept]
        problems: list[Problem] = []
        for one in self._wanted:
            try:
                changes += self._see_to(one)
            except OSError as error:
                problems.append(Problem(one.source, one.line, "capture.netns", f"{one.path}: {_reason(error)}"))
        self.problems = tuple(problems)
        return tuple(changes)

    def reassert(self) -> tuple[str, ...]:
        """Follow namespaces that come, go or are made again, and put back rules that somebody removed.

        Returns:
            What was done, one line each.
        """
        changes = list(self.refresh(self._wanted, self._excluded))
        keys = list(self._open)
        for key in (keys[self._next_check :] + keys[: self._next_check])[:CHECKED_AT_ONCE]:
            self._next_check = (self._next_check + 1) % len(keys)
            held = self._open[key]
            with suppress(OSError):  # a helper that does not answer now is asked again soon; the rules are there
                if self._helper.digest(held.descriptor) != held.digest:
                    changes.append(self._lay_out(key, held))
        return tuple(changes)

    def supply(self, id_: int, ipv6: bool, count: int) -> list[socket.socket]:
        """Unconnected sockets of the namespace with that id.

        Raises:
            OSError: it is not captured any more, or the helper refused.
        """
        with self._lock:
            found = next((one for one in self._open.values() if one.id == id_), None)
            descriptor = os.dup(found.descriptor) if found is not None else -1
        if descriptor < 0:
            return []
        try:
            return self._helper.sockets(descriptor, count, ipv6=ipv6)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Forget all of them; their rules stay, so that nothing leaves in plaintext."""
        for key in list(self._open):
            self._take(key).close()

    def _see_to(self, one: CapturedNamespace) -> Sequence[str]:
        key = one.workload.key
        held = self._open.get(key)
        try:
            descriptor = kernel.open_namespace(one.path) if one.descriptor is None else os.dup(one.descriptor)
        except OSError:
            if held is not None:
                self._take(key).close()
            raise
        if held is not None and self._is_still(held, one, descriptor):
            os.close(descriptor)
            return () if held.excluded == self._excluded else (self._lay_out(key, held),)
        if held is not None:
            self._replace(key, one.path)
        try:
            entered = self._helper.enter(
                descriptor,
                self._ports,
                self._excluded,
                one.addresses,
                one.dns,
                self._socks5,
                self._original_source,
            )
        except OSError:
            os.close(descriptor)
            raise
        opened = OpenNamespace(
            next(self._ids),
            one.workload.number,
            descriptor,
            kernel.inode(descriptor),
            tuple((kind, sock) for kind, sock in entered.listeners if kind not in (NAMES, GATE)),
            entered.digest,
            self._excluded,
            one.workload,
            one.path,
            one.dns,
            tuple(sock for kind, sock in entered.listeners if kind == NAMES),
            next((sock for kind, sock in entered.listeners if kind == GATE), None),
        )
        with self._lock:
            self._open[key] = opened
        return (f"{key}: captured in {one.path}",)

    @staticmethod
    def _is_still(held: OpenNamespace, one: CapturedNamespace, descriptor: int) -> bool:
        wanted = (kernel.inode(descriptor), one.workload.number, one.dns)
        return (held.inode, held.number, held.dns) == wanted

    def _lay_out(self, key: str, held: OpenNamespace) -> str:
        digest = self._helper.lay_out(held.descriptor, self._ports, self._excluded, held.dns, self._original_source)
        with self._lock:
            self._open[key] = replace(held, digest=digest, excluded=self._excluded)
        return f"{key}: rules in its network namespace laid out again"

    def _withdraw(self, key: str) -> str:
        """Let a living namespace go: first the rules, then what they lead to."""
        held = self._take(key)
        try:
            self._helper.leave(held.descriptor)
        except OSError as error:
            return f"{key}: its network namespace keeps its rules: {_reason(error)}"
        finally:
            held.close()
        return f"{key}: released"

    def _replace(self, key: str, path: Path) -> None:
        """Another namespace is the workload now. The former one is released, if it can still be somebody's.

        Where the new one has its path, whoever is left in it has no namespace by any name, and stays refused.
        """
        held = self._take(key)
        if held.path != path:
            with suppress(OSError):
                self._helper.leave(held.descriptor)
        held.close()

    def _take(self, key: str) -> OpenNamespace:
        with self._lock:
            return self._open.pop(key)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
