#!/usr/bin/env python3
"""Build a Debian package from the archive that hosts are given: `build.py [--source DIR] [--output DIR]`.

The virtual environment is made at its final place, /opt/hostmesh, in a mount namespace of its own: nothing in it has to
be rewritten, and nothing of this machine changes. Needs root. Prints the path of the package.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
BUILD = ROOT / "roles" / "_common" / "files" / "build_bundle.py"
UNITS = ("service", "socket", "slice")
INSTALL = ROOT / "roles" / "_common" / "files" / "install.sh"
CONTROL = """\
Package: hostmesh
Version: {version}
Architecture: {architecture}
Maintainer: The hostmesh authors <authors@hostmesh.io>
Depends: python3 (>= {python}), python3 (<< {next_python}), systemd (>= 247), nftables, iproute2
Section: net
Priority: optional
Homepage: https://hostmesh.io
Installed-Size: {size}
Description: ambient mesh for bare metal and VMs
 Makes every connection between the services of ordinary hosts mutually
 authenticated and encrypted, with no change to any service: capture, HBONE
 tunnels, SPIFFE identities and Istio's policies, and a control plane.
"""


def main() -> int:
    """Build; print where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT, help="the repository or the installed collection")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--number", type=int, default=None, help="orders versions; the number of commits by default")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("deb: needs root, to mount the place of the package", file=sys.stderr)
        return 1
    bundle = json.loads(output(sys.executable, BUILD, "--source", options.source))
    number = commits(options.source) if options.number is None else options.number
    release, _, digest = bundle["version"].partition("+")
    version = f"{release}+{number}.{digest}"
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        stage(tree, version, Path(bundle["archive"]))
        lay_out(tree, version, options.source)
        describe(tree, version, bundle["python"])
        package = options.output / f"hostmesh_{version}_{architecture()}.deb"
        output("dpkg-deb", "--root-owner-group", "-Zzstd", "--build", tree, package)
    print(package)
    return 0


def output(*command: str | Path) -> str:
    """What a program prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def commits(source: Path) -> int:
    """How many commits there are; 0 outside a repository."""
    done = subprocess.run(["git", "-C", source, "rev-list", "--count", "HEAD"], capture_output=True, check=False)
    return int(done.stdout) if done.returncode == 0 else 0


def architecture() -> str:
    """As Debian calls it."""
    return output("dpkg", "--print-architecture")


def stage(tree: Path, version: str, archive: Path) -> None:
    """Install into /opt/hostmesh of a mount namespace, which is a folder of the package."""
    opt = tree / "opt" / "hostmesh"
    opt.mkdir(parents=True)
    copy = tree.parent / "archive.tar"
    shutil.copyfile(archive, copy)  # the installer removes what it was given
    created = not Path("/opt/hostmesh").exists()
    Path("/opt/hostmesh").mkdir(exist_ok=True)
    try:
        script = 'mount --bind "$1" /opt/hostmesh && HOSTMESH_STAGE=1 exec sh "$2" "$3" /usr/bin/python3 "$4"'
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
        output(*command, opt, INSTALL, version, copy)
    finally:
        if created:
            Path("/opt/hostmesh").rmdir()
    (opt / "current").symlink_to(version)


def lay_out(tree: Path, version: str, source: Path) -> None:
    """Put everything else where packages have it."""
    share = tree / "opt" / "hostmesh" / version / "share"
    places = {
        "usr/lib/systemd/system": [one for kind in UNITS for one in (share / "systemd").glob(f"*.{kind}")],
        "usr/share/man/man1": sorted((share / "man" / "man1").glob("*.1")),
    }
    for place, found in places.items():
        (tree / place).mkdir(parents=True)
        for path in found:
            shutil.copy(path, tree / place / path.name)
    output("sh", "-c", f"gzip -9n {tree}/usr/share/man/man1/*.1")
    for name, place in {
        share / "systemd" / "hostmesh.sysusers": "usr/lib/sysusers.d/hostmesh.conf",
        share / "systemd" / "hostmesh.tmpfiles": "usr/lib/tmpfiles.d/hostmesh.conf",
        share / "systemd" / "hostmesh.sysctl": "usr/lib/sysctl.d/60-hostmesh.conf",
        share / "completions" / "bash": "usr/share/bash-completion/completions/hostmesh",
        share / "completions" / "zsh": "usr/share/zsh/vendor-completions/_hostmesh",
        share / "completions" / "fish": "usr/share/fish/vendor_completions.d/hostmesh.fish",
        share / "sbom.cdx.json": "usr/share/doc/hostmesh/sbom.cdx.json",
        source / "LICENSE": "usr/share/doc/hostmesh/copyright",
        HERE / "agent.yaml": "etc/hostmesh/agent.yaml",
    }.items():
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, tree / place)
        (tree / place).chmod(0o644)
    for folder in ("conf.d", "workloads.d"):
        (tree / "etc" / "hostmesh" / folder).mkdir()
    (tree / "usr" / "bin").mkdir()
    (tree / "usr" / "bin" / "hostmesh").symlink_to("/opt/hostmesh/current/bin/hostmesh")


def describe(tree: Path, version: str, python: str) -> None:
    """What dpkg reads."""
    meta = tree / "DEBIAN"
    meta.mkdir()
    size = sum(path.lstat().st_size for path in tree.rglob("*")) // 1024
    major, minor = python.split(".")
    fields = {"version": version, "architecture": architecture(), "size": size, "python": python}
    (meta / "control").write_text(CONTROL.format(**fields, next_python=f"{major}.{int(minor) + 1}"), encoding="utf-8")
    (meta / "conffiles").write_text("/etc/hostmesh/agent.yaml\n", encoding="utf-8")
    for script in ("postinst", "prerm", "postrm"):
        shutil.copy(HERE / script, meta / script)


if __name__ == "__main__":
    sys.exit(main())
