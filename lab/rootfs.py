"""The root filesystem that all hosts of a lab share (read-only, below an overlay): built once per set of inputs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

from lab.console import LabError, run, say, step, stream
from lab.distributions import DEBIAN_12, DEBIAN_13, Distribution
from lab.instance import CACHE

DEBIAN_MAIN = ("Debian", "main")
INDEX_TARGETS = ("apt-get", "indextargets", "--format")
CUSTOMIZE = Path(__file__).parent / "customize.sh"
FALLBACK_SOURCES = (
    "deb http://deb.debian.org/debian {suite} main",
    "deb http://deb.debian.org/debian {suite}-updates main",
    "deb http://deb.debian.org/debian-security {suite}-security main",
)
UBUNTU_KEYRING = "usr/share/keyrings/ubuntu-archive-keyring.gpg"


def key(release: Distribution, more: tuple[str, ...] = ()) -> str:
    """A hash of everything that decides what is in the filesystem, save the state of the mirror."""
    digest = hashlib.sha256()
    for part in (release.suite, *release.packages, *more, CUSTOMIZE.read_text(encoding="utf-8")):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def ensure(more: tuple[str, ...] = (), release: Distribution = DEBIAN_12) -> Path:
    """The path of the filesystem, which is built first if this machine has not got it.

    Args:
        more: packages that not every host has.
        release: what it is to be.

    Raises:
        LabError: it cannot be built.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / f"rootfs-{key(release, more)}"
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another lab is building the root filesystem; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _build(target, release, more)
    return target


def _build(target: Path, release: Distribution, more: tuple[str, ...]) -> None:
    # Beside the target, so that the finished tree appears there by one rename.
    work = Path(tempfile.mkdtemp(prefix="building-", dir=CACHE))
    try:
        with step(f"building the hosts' root filesystem ({release.title}, once per machine, kept in {CACHE})"):
            stream(
                [
                    "mmdebstrap",
                    "--variant=minbase",
                    f"--include={','.join((*release.packages, *more))}",
                    '--aptopt=Acquire::Languages "none"',
                    "--dpkgopt=path-exclude=/usr/share/doc/*",
                    "--dpkgopt=path-exclude=/usr/share/man/*",
                    "--dpkgopt=path-exclude=/usr/share/locale/*",
                    f"--customize-hook={CUSTOMIZE}",
                    *_archive(release, work),
                ]
            )
        (work / "root").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _archive(release: Distribution, work: Path) -> list[str]:
    """Options and arguments: where the packages are from. Ubuntu's archive is known to mmdebstrap, but not its keys."""
    root = str(work / "root")
    if release.vendor == "ubuntu":
        return [f"--keyring={_ubuntu_keyring(work)}", "--components=main,universe", release.suite, root]
    return [release.suite, root, _write_sources(work, release.suite)]


def _write_sources(work: Path, suite: str) -> str:
    sources = work / "sources.list"
    sources.write_text("\n".join(_sources(suite)) + "\n", encoding="utf-8")
    return str(sources)


def _ubuntu_keyring(work: Path) -> Path:
    """This machine's, or else the one that Debian signs: Debian 12 has none, Debian 13 has."""
    own = Path("/") / UBUNTU_KEYRING
    if own.exists():
        return own
    tree, suite = work / "keyring", DEBIAN_13.suite
    sources = _write_sources(work, suite)
    stream(["mmdebstrap", "--variant=extract", "--include=ubuntu-archive-keyring", suite, str(tree), sources])
    return tree / UBUNTU_KEYRING


def _sources(suite: str) -> tuple[str, ...]:
    """The machine's own Debian mirrors, whichever release it runs; else Debian's."""
    own = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    fields = "$(ORIGIN) $(REPO_URI) $(CODENAME) $(COMPONENT)"
    listed = {tuple(line.split()) for line in run([*INDEX_TARGETS, fields, "Created-By: Packages"]).splitlines()}
    lines = sorted(
        f"deb {uri} {codename.replace(own, suite, 1)} main"
        for origin, uri, codename, part in listed
        if (origin, part) == DEBIAN_MAIN and own and codename.startswith(own)
    )
    return tuple(lines) or tuple(line.format(suite=suite) for line in FALLBACK_SOURCES)


def require_tools() -> None:
    """Check what the lab cannot do without.

    Raises:
        LabError: something is missing; the message names the packages.
    """
    if os.geteuid() != 0:
        raise LabError("a lab makes namespaces and mounts: run it as root")
    tools = {
        "mmdebstrap": "mmdebstrap",
        "systemd-nspawn": "systemd-container",
        "ip": "iproute2",
        "nsenter": "util-linux",
        "ssh-keygen": "openssh-client",
        "nc": "netcat-openbsd",
    }
    missing = sorted({package for tool, package in tools.items() if shutil.which(tool) is None})
    if missing:
        raise LabError(f"tools are missing; install them with: apt-get install {' '.join(missing)}")
