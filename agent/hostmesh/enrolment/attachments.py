"""Containers that CNI has enrolled: kept over restarts, so that they are captured again before anything else is known.

The key is (network, container, interface), as CNI has it. A container on several networks has one namespace and is one
workload; it is released with its last attachment.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from hostmesh.config.strict_yaml import Problem
from hostmesh.enrolment.namespaces import CapturedNamespace
from hostmesh.enrolment.workloads_d import Enrolled, check_names
from hostmesh.kernel import namespaces
from hostmesh.kernel.files import write_atomically
from hostmesh.model.identity import Identity
from hostmesh.model.local import LocalWorkload

FILE = "cni.json"
KEPT = "cni-"
"""How names of kept namespaces begin."""

_VERSION = 1

Key = tuple[str, str, str]


class AttachmentRefused(ValueError):
    """The container cannot be enrolled as it says; nothing was changed."""


class AttachmentsUnreadable(OSError):
    """The file is not what this program wrote; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of a container. `workload` is `namespace/name`, `netns` the path that the runtime named."""

    network: str
    container: str
    ifname: str
    workload: str
    service_account: str
    netns: str
    addresses: tuple[str, ...] = ()
    dns: bool = False

    @property
    def key(self) -> Key:
        """What CNI knows it by."""
        return self.network, self.container, self.ifname

    @property
    def source(self) -> str:
        """How problems name it."""
        return f"container {self.container[:12]} on network {self.network}"

    def check(self) -> None:
        """Make sure that everything in it is what it should be.

        Raises:
            AttachmentRefused: it is not; the text says what.
        """
        try:
            check_names(self.workload, self.service_account)
            for address in self.addresses:
                ip_address(address)
        except ValueError as error:
            raise AttachmentRefused(str(error)) from error
        if not all((*self.key, self.netns.startswith("/"))):
            raise AttachmentRefused("network, container, ifname and the path of the namespace must be given")


class Keeper(Protocol):
    """Who keeps descriptors while the agent is away; under names that `name_of` makes."""

    def store(self, name: str, descriptor: int) -> None:
        """Keep another reference to it."""
        ...

    def drop(self, name: str) -> None:
        """Let go of it."""
        ...


class Nobody:
    """Where nobody keeps anything, a namespace is found again by its path, or not at all."""

    def store(self, name: str, descriptor: int) -> None:
        """Nothing."""

    def drop(self, name: str) -> None:
        """Nothing."""


def name_of(key: Key) -> str:
    """How a namespace is called at the keeper."""
    return f"{KEPT}{hashlib.sha256(repr(key).encode()).hexdigest()[:40]}"


class Attachments:
    """Owns the file, and a descriptor of each namespace that a runtime has shown since the agent runs.

    Raises:
        AttachmentsUnreadable: the file is damaged.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[Key, Attachment] = {one.key: one for one in _load(file)}
        self._descriptors: dict[Key, int] = {}
        self._keeper: Keeper = Nobody()

    def adopt(self, keeper: Keeper, kept: Mapping[str, int]) -> None:
        """Take over what was kept while the agent was away: paths below /proc lead nowhere for an unprivileged agent.

        Args:
            keeper: keeps them from now on.
            kept: descriptors by name, which are this object's from now on.
        """
        self._keeper = keeper
        names = {name_of(key): key for key in self._known}
        for name, descriptor in kept.items():
            key = names.get(name)
            try:
                namespaces.check(descriptor, name)
            except OSError:
                key = None
            if key is None or key in self._descriptors:
                os.close(descriptor)
                keeper.drop(name)
            else:
                self._descriptors[key] = descriptor

    @property
    def kept(self) -> dict[str, int]:
        """Descriptors by name, for the program that replaces this one."""
        return {name_of(key): descriptor for key, descriptor in self._descriptors.items()}

    def find(self, key: Key) -> Attachment | None:
        """What is known by that key."""
        return self._known.get(key)

    def add(self, attachment: Attachment, descriptor: int) -> None:
        """Remember it, and own the descriptor. The same one again replaces the former.

        Raises:
            AttachmentRefused: it is not valid, or another living container is that workload.
            OSError: the file cannot be written.
        """
        try:
            attachment.check()
            namespaces.check(descriptor, attachment.netns)
            self._make_room(attachment, namespaces.inode(descriptor))
        except OSError as error:
            os.close(descriptor)
            raise AttachmentRefused(error.strerror or str(error)) from error
        except AttachmentRefused:
            os.close(descriptor)
            raise
        self._forget(attachment.key)
        self._known[attachment.key] = attachment
        self._descriptors[attachment.key] = descriptor
        self._keeper.store(name_of(attachment.key), descriptor)
        self._save()

    def remove(self, keys: Collection[Key]) -> bool:
        """Forget them; False if none was known.

        Raises:
            OSError: the file cannot be written.
        """
        gone = [key for key in keys if key in self._known]
        for key in gone:
            self._forget(key)
        if gone:
            self._save()
        return bool(gone)

    def surplus(self, network: str, valid: Collection[tuple[str, str]]) -> list[Key]:
        """Keys of a network that are none of these containers and interfaces."""
        return [key for key in self._known if key[0] == network and key[1:] not in valid]

    def captured(
        self, enrolled: Iterable[Enrolled], numbers: Mapping[str, int], trust_domain: str, dns: int = 0
    ) -> tuple[list[CapturedNamespace], list[Problem]]:
        """What is to be captured: one namespace for each workload.

        Args:
            enrolled: what workloads.d says, which comes first.
            numbers: by workload.
            trust_domain: of the identities.
            dns: where the agent answers questions about names, 0 where it does not.
        """
        documents = {one.key: one for one in enrolled}
        captured: dict[str, CapturedNamespace] = {}
        problems: list[Problem] = []
        for one in tuple(self._known.values()):  # a thread asks, while the owner may change it
            document = documents.get(one.workload)
            if document is not None:
                why = f"{one.workload} is enrolled already at {document.source}:{document.line}"
                problems.append(Problem(one.source, 1, "workload", why))
            elif one.workload not in captured:
                namespace, _, name = one.workload.partition("/")
                identity = Identity(trust_domain, namespace, one.service_account)
                workload = LocalWorkload(numbers[one.workload], name, namespace, identity, "", in_namespace=True)
                addresses = tuple(map(ip_address, one.addresses))
                path, descriptor = Path(one.netns), self._descriptors.get(one.key)
                captured[one.workload] = CapturedNamespace(
                    workload, path, one.source, 1, addresses, descriptor, dns if one.dns else 0
                )
        return list(captured.values()), problems

    @property
    def workloads(self) -> set[str]:
        """Their keys, `namespace/name`."""
        return {one.workload for one in tuple(self._known.values())}

    def drop_dead(self) -> None:
        """Forget containers that ended while the agent was away: nothing is where their namespace was.

        Raises:
            OSError: the file cannot be written.
        """
        known = self._known.items()
        self.remove([key for key, one in known if key not in self._descriptors and not Path(one.netns).exists()])

    def close(self) -> None:
        """Let go of the descriptors; the file stays."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _make_room(self, fresh: Attachment, inode: tuple[int, int]) -> None:
        for key, other in list(self._known.items()):
            if other.workload != fresh.workload or key == fresh.key or self._inode(key) == inode:
                continue
            if self._alive(key):
                raise AttachmentRefused(f"{fresh.workload} is {other.source} already; one container of a host is one")
            self._forget(key)

    def _alive(self, key: Key) -> bool:
        """Whether the runtime still has the namespace where it said."""
        try:
            found = Path(self._known[key].netns).stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self._inode(key) or (found.st_dev, found.st_ino))

    def _inode(self, key: Key) -> tuple[int, int] | None:
        descriptor = self._descriptors.get(key)
        return namespaces.inode(descriptor) if descriptor is not None else None

    def _forget(self, key: Key) -> None:
        self._known.pop(key, None)
        descriptor = self._descriptors.pop(key, None)
        if descriptor is not None:
            os.close(descriptor)
            self._keeper.drop(name_of(key))

    def _save(self) -> None:
        said = {"version": _VERSION, "attachments": [asdict(one) for one in self._known.values()]}
        write_atomically(self._file, json.dumps(said, indent=1).encode())


def _load(file: Path) -> list[Attachment]:
    try:
        said = json.loads(file.read_text())
        found = [Attachment(**{**one, "addresses": tuple(one["addresses"])}) for one in said["attachments"]]
        for one in found:
            one.check()
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise AttachmentsUnreadable(
            f"{file} is damaged ({error}); next: remove it and restart the containers"
        ) from error
    return found
