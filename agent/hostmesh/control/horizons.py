"""Horizons: until when certificates of each authority may live, as a bound that survives power cuts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hostmesh.control.issue import key_id
from hostmesh.control.material import Material
from hostmesh.control.pem_files import CaBroken, read, write

_STEP_OF_LIFE = 0.1
"""How far the bound is set ahead, in lifetimes, so that not every certificate costs a write."""


class Horizons:
    """The file is written before the certificate that needs it is handed out.

    Args:
        path: a JSON file, 0600.
        longest: of all lifetimes; what an authority that is not in the file yet may have signed lives so long.
        now: seconds since the epoch.

    Raises:
        CaBroken: the file is there but damaged.
    """

    def __init__(self, path: Path, longest: float, now: Callable[[], float]) -> None:
        self._path = path
        self._longest = longest
        self._now = now
        self._until: dict[str, float] = {}
        data = read(path)
        if data is not None:
            try:
                self._until = {str(issuer): float(until) for issuer, until in json.loads(data).items()}
            except (ValueError, AttributeError, TypeError) as error:
                raise CaBroken(f"{path}: is damaged ({error}); restore it from backup, or remove it") from error

    def know(self, material: Material, *, fresh: bool = False) -> None:
        """Keep a bound for each authority of `material` and for no other.

        Args:
            material: in use from now on.
            fresh: an authority that is not known here has signed nothing yet.

        Raises:
            CaBroken: not written.
        """
        unknown = 0.0 if fresh else self._now() + self._longest
        issuers = {key_id(signer.certificate).hex() for signer in material.signers}
        until = {issuer: self._until.get(issuer, unknown) for issuer in sorted(issuers)}
        if until != self._until:
            self._commit(until)

    def reach(self, issuer: bytes, not_after: float, lifetime: float) -> None:
        """A certificate of `issuer` is about to be handed out.

        Raises:
            CaBroken: not written; it must not be handed out.
        """
        if not_after > self.of(issuer):
            self._commit(self._until | {issuer.hex(): not_after + lifetime * _STEP_OF_LIFE})

    def of(self, issuer: bytes) -> float:
        """Seconds since the epoch; 0 if it has signed nothing."""
        return self._until.get(issuer.hex(), 0.0)

    def _commit(self, until: dict[str, float]) -> None:
        write(self._path, json.dumps(until).encode(), 0o600)
        self._until = until
