"""OwnRoot: the self-signed root on disk, and its successor while one is on its way.

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

_log = logging.getLogger(__name__)

_FINISHING = "finishing"


class OwnRoot:
    """Owns the files; not for two processes.

    Args:
        directory: `ca/` of the state directory.
        trust_domain: that roots are named for.
        now: seconds since the epoch.
    """

    def __init__(self, directory: Path, trust_domain: str, now: Callable[[], float]) -> None:
        self._trust_domain = trust_domain
        self._now = now
        self._key = directory / "root-key.pem"
        self.path = directory / "root-cert.pem"
        self._next_key = directory / "next-key.pem"
        self._next_cert = directory / "next-cert.pem"
        self._cross = directory / "cross-cert.pem"
        self._rotation = directory / "rotation.json"

    def load(self) -> Material:
        """What is there; a new root if there is nothing at all.

        Raises:
            CaBroken: half of something is missing, unreadable, expired, or no pair.
        """
        phase, rotation = self._read_rotation()
        if phase == _FINISHING:
            self._replace_root()
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
        write(self._next_key, key_pem(key), 0o600)
        write(self._next_cert, cert_pem(root), 0o644)
        write(self._cross, cert_pem(cross_certificate(material.signer, root, now)), 0o644)
        rotation = Rotation(Phase.OVERLAP, now, now)
        self.save(rotation)
        return self._published(self._together(material.signer, rotation))

    def save(self, rotation: Rotation) -> None:
        """Remember where the rotation is.

        Raises:
            CaBroken: it cannot be written; it is where it was.
        """
        value = asdict(rotation) | {"confirmed": sorted(rotation.confirmed)}
        write(self._rotation, json.dumps(value).encode(), 0o600)

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
            write(self._rotation, json.dumps({"phase": _FINISHING}).encode(), 0o600)
            self._replace_root()
        else:
            self._unlink(self._rotation)
            self._remove_next()
        return self._published(self._alone(self._load_or_create()))

    def _together(self, old: Signer, rotation: Rotation) -> Material:
        new = self._load_pair(self._next_key, self._next_cert)
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
        data = read(self._cross)
        if data is None:
            return ()
        (cross, *_) = parse_authorities(self._cross, data)
        fits = cross.public_key() == signer.certificate.public_key()
        return (cross,) if fits and self._now() < cross.not_valid_after_utc.timestamp() else ()

    def _publish(self, material: Material) -> None:
        """The file that hosts get holds all roots, whatever it held before."""
        data = cert_pem(*material.roots)
        if read(self.path) != data:
            write(self.path, data, 0o644)

    def _published(self, material: Material) -> Material:
        self._publish(material)
        return material

    def _replace_root(self) -> None:
        """The second half of a finish; may be done again."""
        if read(self._next_cert) is not None:
            if read(self._next_key) is not None:
                self._next_key.replace(self._key)
            new = parse_authorities(self._next_cert, read(self._next_cert) or b"")
            write(self.path, cert_pem(*new), 0o644)
            self._unlink(self._next_cert)
        self._unlink(self._rotation)

    def _remove_next(self) -> None:
        for path in (self._next_key, self._next_cert):
            self._unlink(path)
            self._unlink(path.with_name(path.name + ".new"))  # of a write that a crash has cut off

    def _unlink(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CaBroken(f"{path}: cannot be removed ({error.strerror})") from error

    def _read_rotation(self) -> tuple[str, Rotation | None]:
        data = read(self._rotation)
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
                f"{self._rotation}: is damaged ({error}); restore it from backup: it says which root signs"
            ) from error

    def _load_or_create(self) -> Signer:
        key_data, cert_data = read(self._key), read(self.path)
        if key_data is None and cert_data is not None:
            raise CaBroken(
                f"{self._key}: the root's private key is missing while {self.path} exists; restore it from backup, "
                "or remove both to make a new root (every node must then be enrolled again)"
            )
        key = parse_key(self._key, key_data) if key_data is not None else ec.generate_private_key(ec.SECP256R1())
        if key_data is None:
            write(self._key, key_pem(key), 0o600)
        if cert_data is None:
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise CaBroken(f"{self._key}: not an elliptic-curve key; restore {self.path} from backup")
            certificate = self_signed_root(key, self._trust_domain, self._now())
            write(self.path, cert_pem(certificate), 0o644)
            _log.info("made a new root certificate: %s", self.path)
            return Signer(certificate, key)
        held = parse_authorities(self.path, cert_data)
        own = next((one for one in held if one.public_key() == key.public_key()), None)
        if own is None:
            raise CaBroken(f"{self.path}: the certificate does not belong to root-key.pem beside it; restore the pair")
        self._check_time(self.path, own)
        return Signer(own, key)

    def _load_pair(self, key_path: Path, cert_path: Path) -> Signer:
        key_data, cert_data = read(key_path), read(cert_path)
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
