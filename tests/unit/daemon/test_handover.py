"""What one program leaves to the next in the same process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from hostmesh.daemon.handover import VARIABLE, Handover, leave, receive, take_back
from hostmesh.kernel.program import Program
from hostmesh.model.identity import Credentials, Identity
from hostmesh.wire.proto import handover_pb2 as kept
from hostmesh.wire.proto import worker_pb2 as pb
from hostmesh.xds.held import XdsUpdate

CREDENTIALS = Credentials(Identity("cluster.local", "prod", "web"), b"key", b"chain", b"roots", 1.0, 2.0, 1 << 150)


def test_everything_arrives_and_nothing_is_left_open() -> None:
    """Listeners are open and closed on exec again, the memory file is gone, children do not inherit the variable."""
    control, other = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener, control, other:
        report = pb.Report(counters=[pb.Series(metric="m", labels=["a"], value=3)])
        worker = kept.KeptWorker(pid=7, control=control.fileno(), partial_frame=b"\0\0", last_report=report, ready=True)
        left = Handover(
            {"inbound": listener},
            (worker,),
            report,
            (CREDENTIALS,),
            4,
            synced=True,
            addresses=("a",),
            authorizations=("p", "q"),
            from_file=True,
        )
        environment = leave(left, {"PATH": "/bin", "LISTEN_FDS": "3", "LISTEN_PID": "1"})
        memory = int(environment[VARIABLE])
        assert sorted(environment) == [VARIABLE, "PATH"]
        assert all(os.get_inheritable(fd) for fd in (listener.fileno(), control.fileno(), memory))
        found = receive(environment)
        assert environment == {"PATH": "/bin"}
        assert found.listeners["inbound"].getsockname() == listener.getsockname()
        found.listeners["inbound"].detach()
        assert (found.workers, found.retired, found.credentials) == ((worker,), report, (CREDENTIALS,))
        assert (found.worker_restarts, found.synced) == (4, True)
        assert (found.addresses, found.authorizations, found.from_file) == (("a",), ("p", "q"), True)
        assert not any(os.get_inheritable(fd) for fd in (listener.fileno(), control.fileno()))
        assert not os.path.exists(f"/proc/self/fd/{memory}")  # noqa: PTH110


def test_a_fresh_process_finds_nothing() -> None:
    """Most starts are not reloads."""
    assert receive({"PATH": "/bin"}) == Handover()


def test_what_workers_know_and_nobody_says_any_more_has_gone() -> None:
    """Whoever tells all that there is does not tell what there was."""
    before = Handover(addresses=("a", "b"), authorizations=("p", "q"))
    now = XdsUpdate(addresses={"b": b"", "c": b""}, authorizations={"p": b""})
    assert before.gone(now) == XdsUpdate(removed_addresses=("a",), removed_authorizations=("q",))
    assert not Handover().gone(now)


def test_what_was_left_can_be_taken_back() -> None:
    """A program that cannot be started leaves no descriptor for the next child to inherit."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = leave(Handover({"inbound": listener}), {})
        take_back(environment)
        assert not os.get_inheritable(listener.fileno())
        assert not os.path.exists(f"/proc/self/fd/{environment[VARIABLE]}")  # noqa: PTH110


def test_it_survives_the_replacement_of_the_program() -> None:
    """The real thing: another Python in the same process, which finds the listener in its environment."""
    script = """
import os, socket, sys
from hostmesh.daemon.handover import Handover, leave, receive
if "HOSTMESH_HANDOVER" in os.environ:
    found = receive(os.environ)
    print(os.getpid() == int(sys.argv[1]), found.listeners["a"].getsockname()[1] == int(sys.argv[2]))
else:
    sock = socket.create_server(("127.0.0.1", 0))
    environment = leave(Handover({"a": sock}), os.environ)
    arguments = [sys.executable, "-c", sys.orig_argv[2], str(os.getpid()), str(sock.getsockname()[1])]
    os.execve(sys.executable, arguments, environment)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True True\n", "")


def test_a_program_is_where_its_link_leads_now(tmp_path: Path) -> None:
    """An upgrade moves the link `current`; that is what a reload notices."""
    base = tmp_path
    for version in ("1", "2"):
        (base / version).mkdir()
    (base / "current").symlink_to("1")
    program = Program((str(base / "current" / "hostmesh"),), base / "current" / "hostmesh")
    before = program.installed()
    (base / "current").unlink()
    (base / "current").symlink_to("2")
    assert (before, program.installed()) == (str(base / "1" / "hostmesh"), str(base / "2" / "hostmesh"))
