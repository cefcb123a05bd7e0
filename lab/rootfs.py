"""The root filesystem that all hosts of a lab share (read-only, below an overlay): built once per set of inputs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from lab.console import LabError, run, say, step, stream
from lab.instance import CACHE

SUITE = "bookworm"
DEBIAN_MAIN = ("Debian", "main")
CUSTOMIZE = Path(__file__).parent / "customize.sh"
PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iptables",
    "iputils-ping",
    "libpam-systemd",
    "libsystemd0",
    "netcat-openbsd",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-venv",
    "sudo",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
    "util-linux",
)
FALLBACK_SOURCES = (
    f"deb http://deb.debian.org/debian {SUITE} main",
    f"deb http://deb.debian.org/debian {SUITE}-updates main",
    f"deb http://deb.debian.org/debian-security {SUITE}-security main",
)


def key(more: tuple[str, ...] = ()) -> str:
    """A hash of everything that decides what is in the filesystem, save the state of the mirror."""
    digest = hashlib.sha256()
    for part in (SUITE, *PACKAGES, *more, CUSTOMIZE.read_text(encoding="utf-8")):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def ensure(more: tuple[str, ...] = ()) -> Path:
    """The path of the filesystem, which is built first if this machine has not got it.

    Args:
        more: packages that not every host has.

    Raises:
        LabError: it cannot be built.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / f"rootfs-{key(more)}"
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another lab is building the root filesystem; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            _build(target, more)
    return target


def _build(target: Path, more: tuple[str, ...]) -> None:
    # Beside the target, so that the finished tree appears there by one rename.
    work = Path(tempfile.mkdtemp(prefix="building-", dir=CACHE))
    try:
        with step(f"building the hosts' root filesystem (Debian 12, once per machine, kept in {CACHE})"):
            sources = work / "sources.list"
            sources.write_text("\n".join(_sources()) + "\n", encoding="utf-8")
            stream(
                [
                    "mmdebstrap",
                    "--variant=minbase",
                    f"--include={','.join((*PACKAGES, *more))}",
                    '--aptopt=Acquire::Languages "none"',
                    "--dpkgopt=path-exclude=/usr/share/doc/*",
                    "--dpkgopt=path-exclude=/usr/share/man/*",
                    "--dpkgopt=path-exclude=/usr/share/locale/*",
                    f"--customize-hook={CUSTOMIZE}",
                    SUITE,
                    str(work / "root"),
                    str(sources),
                ]
            )
        (work / "root").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sources() -> tuple[str, ...]:
    """The machine's own Debian mirrors, if it runs the same release; else Debian's."""
    fields = "$(ORIGIN) $(REPO_URI) $(CODENAME) $(COMPONENT)"
    listed = run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"])
    own = {tuple(line.split()) for line in listed.splitlines()}
    lines = sorted(
        f"deb {uri} {suite} main" for origin, uri, suite, part in own if (origin, part) == ("Debian", "main")
    )
    if any(line.endswith(f" {SUITE} main") for line in lines):
        return tuple(line for line in lines if f" {SUITE}" in line)
    return FALLBACK_SOURCES


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
