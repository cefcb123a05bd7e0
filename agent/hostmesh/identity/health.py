"""How well an identity is provided for, and one line in the log for each change of that, however long it lasts."""

from __future__ import annotations

import logging
from enum import Enum

from hostmesh.identity.schedule import Slot
from hostmesh.model.identity import Identity
from hostmesh.rpc.failure import Failure

_ENDANGERED = 1 / 3
"""Share of a certificate's life that is left when failing renewals become a warning of their own."""


class Health(Enum):
    """From good to bad; the values are what status and scripts see."""

    GOOD = "good"
    PENDING = "pending"
    RENEWAL_FAILS = "renewal fails"
    EXPIRES_SOON = "expires soon"
    ABSENT = "absent"

    @property
    def is_trouble(self) -> bool:
        """Whether somebody should look."""
        return self in (Health.RENEWAL_FAILS, Health.EXPIRES_SOON, Health.ABSENT)


_LEVELS = {
    Health.RENEWAL_FAILS: logging.WARNING,
    Health.EXPIRES_SOON: logging.WARNING,
    Health.ABSENT: logging.ERROR,
}


def health(slot: Slot, not_before: float, now: float) -> Health:
    """Of one identity.

    Args:
        slot: its state.
        not_before: of the certificate that the slot counts on; any number if there is none.
        now: seconds since the epoch.
    """
    if slot.not_after is None or slot.not_after <= now:
        return Health.ABSENT if slot.error else Health.PENDING
    if not slot.error:
        return Health.GOOD
    left, life = slot.not_after - now, slot.not_after - not_before
    return Health.EXPIRES_SOON if left < life * _ENDANGERED else Health.RENEWAL_FAILS


class HealthLog:
    """Says each change once. A repeated failure is no change, another kind of failure is one."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: dict[Identity, tuple[Health, Failure | None]] = {}

    def note(self, identity: Identity, now: Health, text: str, failure: Failure | None = None) -> None:
        """Tell of the present state; `failure` is the kind of the trouble, None for the one that was."""
        before = self._said.get(identity)
        kind = failure or (before[1] if before is not None and now.is_trouble else None)
        news = before != (now, kind)
        self._said[identity] = (now, kind)
        self._log.log(_LEVELS.get(now, logging.INFO) if news else logging.DEBUG, "%s", text)

    def said(self, identity: Identity) -> Health | None:
        """What was told last."""
        before = self._said.get(identity)
        return before[0] if before is not None else None

    def forget(self, identity: Identity) -> None:
        """It is no longer wanted here."""
        self._said.pop(identity, None)
