"""`python3 -m lab.interpreter DISTRIBUTION ARGUMENTS...`: another distribution's Python, with a compiler.

Wheels with C in them are built by the Python that is to load them. Runs in that distribution's file system on this
machine, with its network, the caller's home and this project; what it writes elsewhere is gone afterwards.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from lab import rootfs
from lab.console import LabError
from lab.distributions import distribution

PACKAGES = ("gcc", "libc6-dev", "libsystemd-dev", "pkg-config", "python3-dev")
PROJECT = Path(__file__).parents[1]
# Arguments: the file system, the interpreter, folders and files to share, `--`, the interpreter's own.
ENTER = """
tree=$1 python=$2; shift 2
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$tree,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
while [ "$1" != -- ]; do
  inside=/mnt/root$1
  if [ -d "$1" ]; then mkdir -p "$inside"; else mkdir -p "${inside%/*}"; rm -f "$inside"; : > "$inside"; fi
  mount --rbind "$1" "$inside"; shift
done
shift
exec chroot /mnt/root "$python" "$@"
"""


def shared() -> list[str]:
    """What is seen under the same path inside and outside."""
    wanted = ["/proc", "/dev", "/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs", "/etc/pip.conf", str(Path.home())]
    return [path for path in (*wanted, str(PROJECT)) if Path(path).exists()]


def main() -> int:
    """Let the interpreter take this process's place; returns only when that fails."""
    if len(sys.argv) < 2:
        print("usage: python3 -m lab.interpreter DISTRIBUTION ARGUMENTS...", file=sys.stderr)
        return 2
    try:
        rootfs.require_tools()
        release = distribution(sys.argv[1])
        # What is said of the file system must not be taken for what the interpreter prints.
        with contextlib.redirect_stdout(sys.stderr):
            tree = rootfs.ensure(PACKAGES, release)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", ENTER, "sh", str(tree), release.python]
    return os.execvp("unshare", [*command, *shared(), "--", *sys.argv[2:]])  # noqa: S606 - as said


if __name__ == "__main__":
    sys.exit(main())
