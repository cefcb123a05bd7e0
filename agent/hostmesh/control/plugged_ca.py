"""A plugged-in authority (Istio's `cacerts`): ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from pathlib import Path

from cryptography import x509

from hostmesh.control.issue import Signer
from hostmesh.control.material import Material
from hostmesh.control.pem_files import CaBroken, issued_by, parse_authorities, parse_key, read

FILES = ("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")

Fingerprint = tuple[tuple[int, int, int] | None, ...]


def is_plugged(directory: Path) -> bool:
    """Whether somebody has put an authority there; half of one counts, and is refused by `load`."""
    return any((directory / name).exists() for name in FILES[:2])


def fingerprint(directory: Path) -> Fingerprint:
    """Changes when one of the files does."""
    return tuple(_stamp(directory / name) for name in FILES)


def load(directory: Path, now: Callable[[], float]) -> Material:
    """The authority in `directory`.

    Raises:
        CaBroken: a file is missing or unreadable, or they do not fit together; names the file.
    """
    key_path, cert_path, chain_path, root_path = _paths(directory)
    key = parse_key(key_path, _need(key_path))
    (own, *_) = parse_authorities(cert_path, _need(cert_path))
    roots = parse_authorities(root_path, _need(root_path))
    chain_data = read(chain_path)
    chain = parse_authorities(chain_path, chain_data) if chain_data is not None else ()
    if own.public_key() != key.public_key():
        raise CaBroken(f"{cert_path}: the certificate does not belong to {key_path.name} beside it")
    path = (own, *(one for one in chain if one != own))
    anchor = _check_path(path, roots, chain_path, root_path)
    _check_time((*path, *roots), directory, now())
    below = tuple(one for one in path if one not in roots and not issued_by(one, one))
    ordered = (anchor, *(root for root in roots if root != anchor))
    return Material(signer=Signer(own, key), roots=ordered, chain=below, server_chain=below, plugged=True)


def check_change(before: Material, after: Material, directory: Path) -> None:
    """Whether `after` may replace `before` while the mesh runs.

    Raises:
        CaBroken: agents that do not know the new root yet would refuse what it signs.
    """
    if _anchor((after.signer.certificate, *after.chain), after.roots) in before.roots:
        return
    raise CaBroken(
        f"{directory / 'ca-cert.pem'}: is signed by a root that agents have not been told of; put the old and the new "
        "root into root-cert.pem first, wait until `hostmesh ca status` says that all agents have them, then change "
        "ca-cert.pem, ca-key.pem and cert-chain.pem, and remove the old root last"
    )


def _paths(directory: Path) -> tuple[Path, Path, Path, Path]:
    cert, key, chain, root = (directory / name for name in FILES)
    return key, cert, chain, root


def _need(path: Path) -> bytes:
    data = read(path)
    if data is None:
        raise CaBroken(f"{path}: is missing; an authority is plugged in with all of {', '.join(FILES)}")
    return data


def _check_path(
    path: Collection[x509.Certificate], roots: Collection[x509.Certificate], chain_path: Path, root_path: Path
) -> x509.Certificate:
    """Each is signed by the next, the last by the root that is returned."""
    steps = list(path)
    for lower, upper in itertools.pairwise(steps):
        if not issued_by(lower, upper):
            raise CaBroken(
                f"{chain_path}: {upper.subject.rfc4514_string()} has not signed {lower.subject.rfc4514_string()}; "
                "the file begins with ca-cert.pem, and each certificate is signed by the one that follows"
            )
    anchor = _anchor(steps, roots)
    if anchor is None:
        raise CaBroken(f"{root_path}: no certificate in it has signed {steps[-1].subject.rfc4514_string()}")
    return anchor


def _anchor(path: Collection[x509.Certificate], roots: Collection[x509.Certificate]) -> x509.Certificate | None:
    top = list(path)[-1]
    return next((root for root in roots if root == top or issued_by(top, root)), None)


def _check_time(certificates: Collection[x509.Certificate], directory: Path, now: float) -> None:
    for one in certificates:
        if now >= one.not_valid_after_utc.timestamp():
            raise CaBroken(
                f"{directory}: {one.subject.rfc4514_string()} expired at {one.not_valid_after_utc.isoformat()}; "
                "replace it, or check this host's clock"
            )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
