"""Network namespaces, links between them and cgroups for tests on the real kernel; all of it needs root.

Nothing here uses `ip netns exec`: it mounts a fresh /sys, and cgroup paths vanish. A test enters a namespace with
setns, which moves the calling thread only, and a cgroup by moving the test process. A socket belongs for ever to the
namespace and cgroup in which it was made, so one process can play every part.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.patience import PATIENCE

from hostmesh.kernel.cgroup import CgroupRoot, find_root, of_process

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_count = itertools.count(1)

TURNS = 30
"""Of a hundredth of a second: how long a test listens for what must not come."""


@dataclass(frozen=True)
class Namespace:
    """A network namespace with lo up. `v4` and `v6` are its addresses on the link made first."""

    name: str
    v4: str = ""
    v6: str = ""

    @property
    def path(self) -> Path:
        """What `nsenter --net=` takes."""
        return Path("/run/netns") / self.name

    def ip(self, arguments: str) -> None:
        """Run the ip tool on the namespace; `route add default via 10.0.0.1`, for example."""
        subprocess.run(["ip", "-n", self.name, *arguments.split()], check=True)

    def run(self, *argv: str, stdin: str | None = None) -> str:
        """Run a program in the namespace and return what it prints; fails when it fails."""
        with self.entered():
            return subprocess.run(argv, input=stdin, check=True, capture_output=True, text=True).stdout

    def command(self, *argv: str) -> list[str]:
        """The command line that runs a program in the namespace."""
        return ["nsenter", f"--net={self.path}", "--", *argv]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread, and what it starts, is in the namespace; /proc/sys/net too."""
        with Path("/proc/thread-self/ns/net").open() as before, self.path.open() as inside:
            _setns(inside.fileno())
            try:
                yield
            finally:
                _setns(before.fileno())


@contextmanager
def namespace(hint: str = "ns") -> Iterator[Namespace]:
    """A fresh namespace with a name of its own, deleted afterwards."""
    name = f"hm{os.getpid()}{hint}{next(_count)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        made = Namespace(name)
        made.ip("link set lo up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def connect(a: Namespace, b: Namespace, subnet: int = 77) -> tuple[Namespace, Namespace]:
    """Join two namespaces by a veth pair: 10.<subnet>.0.1 and .2, fd<subnet>::1 and ::2.

    Returns:
        The namespaces, with their addresses on this link.
    """
    device = f"v{next(_count)}"
    mac = [f"02:00:00:00:{subnet:02x}:{number:02x}" for number in (0, 1, 2)]
    a.ip(f"link add {device} address {mac[1]} type veth peer name {device} address {mac[2]} netns {b.name}")
    ends = []
    for end, number in ((a, 1), (b, 2)):
        v4, v6 = f"10.{subnet}.0.{number}", f"fd{subnet}::{number}"
        end.ip(f"link set {device} addrgenmode none")
        end.ip(f"addr add {v4}/24 dev {device}")
        end.ip(f"addr add {v6}/64 dev {device} nodad")
        end.ip(f"link set {device} up")
        # who is told its neighbour need not find it: the first connection is not slower than the others
        for neighbour in (f"10.{subnet}.0.{3 - number}", f"fd{subnet}::{3 - number}"):
            end.ip(f"neigh add {neighbour} lladdr {mac[3 - number]} dev {device} nud permanent")
        ends.append(Namespace(end.name, v4, v6))
    return ends[0], ends[1]


@contextmanager
def linked(*hints: str) -> Iterator[tuple[Namespace, Namespace]]:
    """Two fresh namespaces joined by a link; the first is .1, the second .2."""
    with ExitStack() as stack:
        a, b = (stack.enter_context(namespace(hint)) for hint in hints or ("a", "b"))
        yield connect(a, b)


class Cgroup:
    """A cgroup of this test below the cgroup v2 root; `path` is written as systemd writes it, without the root."""

    def __init__(self, root: CgroupRoot, path: str) -> None:
        self.root = root
        self.path = path

    @property
    def directory(self) -> Path:
        """Below /sys/fs/cgroup."""
        return self.root.mount / self.path

    def start(self) -> None:
        """Make it, as systemd does when a unit starts."""
        self.directory.mkdir(parents=True)

    def stop(self) -> None:
        """Remove it, as systemd does when a unit stops; nothing may run in it."""
        self.directory.rmdir()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The test process is in the cgroup; so are the sockets it makes and the children it starts."""
        home = self.root.mount / of_process()
        (self.directory / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (home / "cgroup.procs").write_text(str(os.getpid()))


@contextmanager
def slice_of_cgroups() -> Iterator[tuple[CgroupRoot, str]]:
    """The cgroup root, and the path of a fresh top-level cgroup; it and all below are removed afterwards."""
    root = find_root()
    path = f"hm{os.getpid()}x{next(_count)}.slice"
    (root.mount / path).mkdir()
    try:
        yield root, path
    finally:
        for directory, _, _ in os.walk(root.mount / path, topdown=False):
            Path(directory).rmdir()


def make_socket(where: Namespace, cgroup: Cgroup | None = None, family: int = socket.AF_INET) -> socket.socket:
    """A TCP socket of the namespace and cgroup, with a timeout."""
    with ExitStack() as stack:
        stack.enter_context(where.entered())
        if cgroup is not None:
            stack.enter_context(cgroup.entered())
        sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    return sock


def comes(sock: socket.socket) -> bool:
    """Whether there is anything to read, or to accept.

    Silence is counted in turns, not in seconds: one in which the whole machine stood still is one, however long.
    """
    return any(select.select([sock], [], [], 0.01)[0] for _ in range(TURNS))


def is_answered(sock: socket.socket, address: tuple[str, int]) -> bool:
    """Whether a connection comes about, or is refused by who got it; silence is what a firewall makes of it."""
    number = attempt(sock, address)
    if number not in (0, errno.EINPROGRESS, errno.ECONNREFUSED, errno.ECONNRESET):
        raise OSError(number, os.strerror(number))
    return number != errno.EINPROGRESS


def attempt(sock: socket.socket, address: tuple[str, int]) -> int:
    """Connect: 0, or the number of the error; EINPROGRESS is silence, which is counted in turns."""
    sock.setblocking(False)
    number = sock.connect_ex(address)
    for _ in range(TURNS):
        if number != errno.EINPROGRESS:
            break
        if select.select([], [sock], [], 0.01)[1]:
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    sock.settimeout(PATIENCE)
    return number


def listen(where: Namespace, address: str, port: int, cgroup: Cgroup | None = None) -> socket.socket:
    """A listening socket; `::` takes both families."""
    sock = make_socket(where, cgroup, socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((address, port))
    sock.listen(128)  # all that a test dials before it accepts
    return sock


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
