"""Horizons: until when certificates of each authority may live, as a bound that survives power cuts."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

from hostmesh.control.issue import key_id
from hostmesh.control.material import Material
from hostmesh.control.records import ABSENT, Conflict, Records

_PREFIX = "horizons/"
_STEP_OF_LIFE = 0.1
"""How far the bound is set ahead, in lifetimes, so that not every certificate costs a write."""


class Horizons:
    """Each is written before the certificate that needs it is handed out.

    Args:
        records: where they are kept, under `horizons/`.
        longest: of all lifetimes; what an authority that is not known yet may have signed lives so long.
        now: seconds since the epoch.
    """

    def __init__(self, records: Records, longest: float, now: Callable[[], float]) -> None:
        self._records = records
        self._longest = longest
        self._now = now

    def know(self, material: Material, *, fresh: bool = False) -> None:
        """Keep a bound for each authority of `material` and for no other.

        Args:
            material: in use from now on.
            fresh: an authority that is not known here has signed nothing yet.

        Raises:
            OSError: not written.
        """
        unknown = 0.0 if fresh else self._now() + self._longest
        issuers = {key_id(signer.certificate).hex() for signer in material.signers}
        held = {key.removeprefix(_PREFIX): key for key in self._records.under(_PREFIX)}
        changes: dict[str, str | None] = {key: None for issuer, key in held.items() if issuer not in issuers}
        changes |= {f"{_PREFIX}{issuer}": repr(unknown) for issuer in sorted(issuers) if issuer not in held}
        if changes:
            self._records.commit(changes)

    def reach(self, issuer: bytes, not_after: float, lifetime: float) -> None:
        """A certificate of `issuer` is about to be handed out.

        Raises:
            OSError: not written; it must not be handed out.
        """
        key = f"{_PREFIX}{issuer.hex()}"
        while True:
            known = self._records.get(key)
            if known is not None and not_after <= _epoch(known.value):
                return
            version = known.version if known is not None else ABSENT
            with suppress(Conflict):  # another control plane has moved it: perhaps far enough
                self._records.commit({key: repr(not_after + lifetime * _STEP_OF_LIFE)}, expect={key: version})

    def of(self, issuer: bytes) -> float:
        """Seconds since the epoch; 0 if it has signed nothing."""
        known = self._records.get(f"{_PREFIX}{issuer.hex()}")
        return _epoch(known.value) if known is not None else 0.0


def _epoch(text: str) -> float:
    """What cannot be read is never over."""
    try:
        return float(text)
    except ValueError:
        return math.inf
