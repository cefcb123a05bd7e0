"""OwnRoot: the self-signed root, and its successor while one is on its way.

`root-key.pem` and `root-cert.pem` are the root. During a rotation `rotation.json` says where it is, `next-key.pem` and
`next-cert.pem` are the new root, and `root-cert.pem` holds both. Each step is one atomic write; what a crash leaves
half done is completed or removed at the next start.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from hostmesh.control.issue import Signer, cross_certificate, self_signed_root
from hostmesh.control.material import Material
from hostmesh.control.pem_files import CaBroken, cert_pem, issued_by, key_pem, parse_authorities, parse_key, read, write
from hostmesh.control.rotation import Phase, Rotation
from hostmesh.control.shelf import Overtaken, Shelf

_log = logging.getLogger(__name__)

_FINISHING = "finishing"
_KEY, _CERT = "root-key.pem", "root-cert.pem"
_NEXT_KEY, _NEXT_CERT, _CROSS = "next-key.pem", "next-cert.pem", "cross-cert.pem"
_ROTATION = "rotation.json"


class OwnRoot:
    """Owns what is on the shelf; not for two processes, unless that keeps them apart.

    Args:
        shelf: where keys and certificates are.
        path: the file that hosts get as their root-cert.pem.
        trust_domain: that roots are named for.
        now: seconds since the epoch.
    """

    def __init__(self, shelf: Shelf, path: Path, trust_domain: str, now: Callable[[], float]) -> None:
        self._shelf = shelf
        self.path = path
        self._trust_domain = trust_domain
        self._now = now

    @property
    def exists(self) -> bool:
        """Whether there is a root already."""
        return self._shelf.read(_CERT) is not None

    def has_news(self) -> bool:
        """Whether another control plane has changed something: `load` tells what."""
        return self._shelf.has_news()

    def load(self) -> Material:
        """What is there; a new root if there is nothing at all.

        Raises:
            CaBroken: half of something is missing, unreadable, expired, or no pair.
        """
        try:
            return self._load()
        except Overtaken:  # as at the first start of several control planes
            return self._load()

    def _load(self) -> Material:
        phase, rotation = self._read_rotation()
        if phase == _FINISHING:
            self._shelf.put(self._replacement())
        old = self._load_or_create()
        if rotation is None:
            self._remove_next()
            material = self._alone(old)
        else:
            material = self._together(old, rotation)
        self._publish(material)
        return material

    def start(self, material: Material) -> Material:
        """Make a new root beside the old one; the old one goes on signing.

        Raises:
            CaBroken: a file cannot be written; nothing has begun.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._now()
        root = self_signed_root(key, self._trust_domain, now, successor=True)
        rotation = Rotation(Phase.OVERLAP, now, now)
        self._shelf.put(
            [
                (_NEXT_KEY, key_pem(key)),
                (_NEXT_CERT, cert_pem(root)),
                (_CROSS, cert_pem(cross_certificate(material.signer, root, now))),
                (_ROTATION, _text(rotation)),
            ]
        )
        return self._published(self._together(material.signer, rotation))

    def save(self, rotation: Rotation) -> None:
        """Remember where the rotation is.

        Raises:
            CaBroken: it cannot be written; it is where it was.
        """
        self._shelf.put([(_ROTATION, _text(rotation))])

    def move(self, material: Material, rotation: Rotation) -> Material:
        """Go to another phase: another root signs.

        Raises:
            CaBroken: it cannot be written; nothing has changed.
        """
        old, _ = self._pair(material)
        self.save(rotation)
        return self._published(self._together(old, rotation))

    def finish(self, material: Material) -> Material:
        """Dismiss the root that does not sign, its key included.

        Raises:
            CaBroken: it cannot be written; the next start or the next try completes it.
        """
        if material.rotation is None:
            return material
        if material.rotation.new_signs:
            finishing = json.dumps({"phase": _FINISHING}).encode()
            self._shelf.put([(_ROTATION, finishing), *self._replacement()])
        else:
            self._shelf.put([(_ROTATION, None), (_NEXT_KEY, None), (_NEXT_CERT, None)])
        return self._published(self._alone(self._load_or_create()))

    def _together(self, old: Signer, rotation: Rotation) -> Material:
        new = self._load_pair(_NEXT_KEY, _NEXT_CERT)
        signer, other = (new, old) if rotation.new_signs else (old, new)
        return Material(
            signer=signer,
            others=(other,),
            roots=(signer.certificate, other.certificate),
            server_chain=self._cross_chain(signer),
            rotation=rotation,
        )

    def _alone(self, root: Signer) -> Material:
        return Material(signer=root, roots=(root.certificate,), server_chain=self._cross_chain(root))

    def _pair(self, material: Material) -> tuple[Signer, Signer]:
        """(old, new)."""
        first, second = material.signer, material.others[0]
        new_signs = material.rotation is not None and material.rotation.new_signs
        return (second, first) if new_signs else (first, second)

    def _cross_chain(self, signer: Signer) -> tuple[x509.Certificate, ...]:
        """The signer as its predecessor has certified it, as long as that is worth anything."""
        data = self._shelf.read(_CROSS)
        if data is None:
            return ()
        (cross, *_) = parse_authorities(self._shelf.where(_CROSS), data)
        fits = cross.public_key() == signer.certificate.public_key()
        return (cross,) if fits and self._now() < cross.not_valid_after_utc.timestamp() else ()

    def _publish(self, material: Material) -> None:
        """The file that hosts get holds all roots, whatever it held before."""
        data = cert_pem(*material.roots)
        if self._shelf.read(_CERT) != data:
            self._shelf.put([(_CERT, data)])
        if read(self.path) != data:
            write(self.path, data, 0o644)

    def _published(self, material: Material) -> Material:
        self._publish(material)
        return material

    def _replacement(self) -> list[tuple[str, bytes | None]]:
        """The second half of a finish; may be done again from wherever it stopped."""
        changes: list[tuple[str, bytes | None]] = []
        cert, key = self._shelf.read(_NEXT_CERT), self._shelf.read(_NEXT_KEY)
        if cert is not None:
            if key is not None:
                changes += [(_KEY, key), (_NEXT_KEY, None)]
            changes += [(_CERT, cert), (_NEXT_CERT, None)]
        return [*changes, (_ROTATION, None)]

    def _remove_next(self) -> None:
        """What a start that was cut off has left."""
        for name in (_NEXT_KEY, _NEXT_CERT):
            self._shelf.read(name)  # shared records are removed only as they were seen
        self._shelf.put([(_NEXT_KEY, None), (_NEXT_CERT, None)])

    def _read_rotation(self) -> tuple[str, Rotation | None]:
        data = self._shelf.read(_ROTATION)
        if data is None:
            return "", None
        try:
            value: dict[str, Any] = json.loads(data)
            if value["phase"] == _FINISHING:
                return _FINISHING, None
            values = value | {"phase": Phase(value["phase"]), "confirmed": frozenset(value["confirmed"])}
            return str(value["phase"]), Rotation(**values)
        except (ValueError, KeyError, TypeError) as error:
            raise CaBroken(
                f"{self._shelf.where(_ROTATION)}: is damaged ({error}); restore it from backup: it says which root "
                "signs"
            ) from error

    def _load_or_create(self) -> Signer:
        key_data, cert_data = self._shelf.read(_KEY), self._shelf.read(_CERT)
        key_path, cert_path = self._shelf.where(_KEY), self._shelf.where(_CERT)
        if key_data is None and cert_data is not None:
            raise CaBroken(
                f"{key_path}: the root's private key is missing while {cert_path} exists; restore it from backup, "
                "or remove both to make a new root (every node must then be enrolled again)"
            )
        key = parse_key(key_path, key_data) if key_data is not None else ec.generate_private_key(ec.SECP256R1())
        if cert_data is None:
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise CaBroken(f"{key_path}: not an elliptic-curve key; restore {cert_path} from backup")
            certificate = self_signed_root(key, self._trust_domain, self._now())
            new = [(_KEY, key_pem(key))] if key_data is None else []
            self._shelf.put([*new, (_CERT, cert_pem(certificate))])
            _log.info("made a new root certificate: %s", cert_path)
            return Signer(certificate, key)
        held = parse_authorities(cert_path, cert_data)
        own = next((one for one in held if one.public_key() == key.public_key()), None)
        if own is None:
            raise CaBroken(f"{cert_path}: the certificate does not belong to root-key.pem beside it; restore the pair")
        self._check_time(cert_path, own)
        return Signer(own, key)

    def _load_pair(self, key_name: str, cert_name: str) -> Signer:
        key_data, cert_data = self._shelf.read(key_name), self._shelf.read(cert_name)
        key_path, cert_path = self._shelf.where(key_name), self._shelf.where(cert_name)
        for path, data in ((key_path, key_data), (cert_path, cert_data)):
            if data is None:
                raise CaBroken(f"{path}: is missing during a rotation; restore it from backup")
        key = parse_key(key_path, key_data or b"")
        (certificate, *_) = parse_authorities(cert_path, cert_data or b"")
        if certificate.public_key() != key.public_key() or not issued_by(certificate, certificate):
            raise CaBroken(f"{cert_path}: the certificate does not belong to {key_path.name} beside it")
        self._check_time(cert_path, certificate)
        return Signer(certificate, key)

    def _check_time(self, path: Path, certificate: x509.Certificate) -> None:
        if self._now() >= certificate.not_valid_after_utc.timestamp():
            raise CaBroken(
                f"{path}: the root certificate expired at {certificate.not_valid_after_utc.isoformat()}; "
                "check this host's clock, or remove root-cert.pem to renew it with the same key"
            )


def _text(rotation: Rotation) -> bytes:
    return json.dumps(asdict(rotation) | {"confirmed": sorted(rotation.confirmed)}).encode()
