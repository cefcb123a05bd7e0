"""A real etcd cluster on loopback, each member a process that can be killed and started again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.addresses import free_port
from tests.support.patience import PATIENCE
from tests.support.pki import Authority

from hostmesh.control.etcd.client import EtcdEndpoints, members


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The authority that everybody trusts, the members' certificate, and that of clients, who must have one."""

    root_cert: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path

    @classmethod
    def make(cls, directory: Path, authority: Authority) -> TlsFiles:
        """In a directory."""
        made = cls(*(directory / f"{name}.pem" for name in ("root", "member", "member-key", "client", "client-key")))
        made.root_cert.write_bytes(authority.pem)
        for owner, cert, key in (("member", made.cert, made.key), ("client", made.client_cert, made.client_key)):
            certificate, private = authority.host_certificate(owner, "127.0.0.1")
            cert.write_bytes(certificate)
            key.write_bytes(private)
        return made


@dataclass(slots=True)
class Member:
    """One process; `prefix` is put before its command (a namespace to run in)."""

    name: str
    address: str
    client: int
    peer: int
    directory: Path
    prefix: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    tls: TlsFiles | None = None

    @property
    def url(self) -> str:
        """For clients."""
        return f"{self.address}:{self.client}"

    @property
    def scheme(self) -> str:
        """Of its clients; members speak to each other in plaintext."""
        return "http" if self.tls is None else "https"


@dataclass(slots=True)
class Cluster:
    """All members."""

    members: list[Member] = field(default_factory=list)

    @property
    def endpoints(self) -> EtcdEndpoints:
        """For our client."""
        return EtcdEndpoints(members([member.url for member in self.members]))

    def start(self, *chosen: Member) -> None:
        """Start members that do not run; all by default."""
        initial = ",".join(f"{m.name}=http://{m.address}:{m.peer}" for m in self.members)
        for member in chosen or self.members:
            if member.process is None:
                with (member.directory / "log").open("ab") as log:
                    member.process = subprocess.Popen(_command(member, initial), stdout=log, stderr=log)

    def kill(self, member: Member) -> None:
        """As a power cut would."""
        if member.process is not None:
            member.process.kill()
            member.process.wait()
            member.process = None

    def wait_until_healthy(self, via: Member | None = None) -> None:
        """Until a write succeeds."""
        self.insist("put", "healthy", "yes", via=via)

    def insist(self, *words: str, via: Member | None = None) -> str:
        """What the operator's tool says once it succeeds, for what may be said twice: in an election it does not."""
        for _ in range(150):
            done = self.ctl(*words, via=via, check=False)
            if done.returncode == 0:
                return done.stdout
            time.sleep(0.1)
        raise AssertionError(done.stderr + Path((via or self.members[0]).directory, "log").read_text()[-2000:])

    def ctl(self, *words: str, via: Member | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The operator's tool."""
        one = via or self.members[0]
        command = [*one.prefix, "etcdctl", f"--endpoints={one.scheme}://{one.url}", "--command-timeout=10s", *words]
        if one.tls is not None:
            files = one.tls
            command += [f"--cacert={files.root_cert}", f"--cert={files.client_cert}", f"--key={files.client_key}"]
        environment = {"ETCDCTL_API": "3", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(command, check=check, text=True, capture_output=True, timeout=PATIENCE, env=environment)


@contextmanager
def etcd_cluster(
    directory: Path,
    size: int = 3,
    places: Sequence[tuple[str, tuple[str, ...]]] = (),
    tls: TlsFiles | None = None,
) -> Iterator[Cluster]:
    """Start a cluster, wait until it serves, and end it in any case.

    Args:
        directory: of its data.
        size: members on loopback, unless there are `places`.
        places: an address and what to put before the command, for each member.
        tls: with what members speak to clients; None for plaintext.
    """
    where = places or [("127.0.0.1", ())] * size
    cluster = Cluster()
    for number, (address, prefix) in enumerate(where):
        client, peer = (2379, 2380) if places else (free_port(), free_port())
        home = directory / f"m{number}"
        home.mkdir(parents=True)
        cluster.members.append(Member(f"m{number}", address, client, peer, home, prefix, tls=tls))
    try:
        cluster.start()
        cluster.wait_until_healthy()
        yield cluster
    finally:
        for member in cluster.members:
            cluster.kill(member)


def _command(member: Member, initial: str) -> list[str]:
    client, peer = f"{member.scheme}://{member.url}", f"http://{member.address}:{member.peer}"
    tls = member.tls
    secured = (
        []
        if tls is None
        else [
            f"--cert-file={tls.cert}",
            f"--key-file={tls.key}",
            "--client-cert-auth",
            f"--trusted-ca-file={tls.root_cert}",
        ]
    )
    return [
        *member.prefix,
        "etcd",
        f"--name={member.name}",
        f"--data-dir={member.directory / 'data'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster={initial}",
        "--heartbeat-interval=100",
        "--election-timeout=1000",
        "--max-txn-ops=10000",
        "--quota-backend-bytes=67108864",
        *secured,
    ]
