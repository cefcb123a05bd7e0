"""Hooks: what a proxy worker needs of the process around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hostmesh.model.identity import Identity
from hostmesh.telemetry.records import Record


class Hooks(Protocol):
    """Implemented by the link to the main process; called from the worker's loop, must not block."""

    def want_credentials(self, identity: Identity) -> None:
        """A connection waits for this identity's certificate. Answered by `ProxyServer.put_credentials`."""

    def want_name(self, hostname: str) -> None:
        """A connection waits for this hostname's addresses. Answered by `ProxyServer.put_name`."""

    def want_address(self, name: str) -> None:
        """A connection waits to hear whose an address is. Answered by `ProxyServer.addresses_known`."""

    def used_addresses(self, names: Sequence[str]) -> None:
        """Connections went to these, as `want_address` names them."""

    def log(self, records: Sequence[Record]) -> None:
        """Everything that was logged in one turn of the loop, in order."""
