"""`hostmesh ca` against a real control plane: what an operator sees, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.mesh import until

from hostmesh.cli import ca, main
from hostmesh.control.revocations import REASONS
from hostmesh.identity.enrolment import enrol
from hostmesh.model.endpoint import Endpoint
from hostmesh.rpc.channel import ControlPlane

Run = Callable[..., Result]
NODE = "spiffe://cluster.local/ns/hostmesh-nodes/sa/mesh1"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningControlPlane]:
    with control_plane(tmp_path) as plane:
        yield plane


@pytest.fixture
def run(running: RunningControlPlane) -> Run:
    return typed(running)


@pytest.fixture(scope="module")
def run_of_mistakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One control plane for all of them, as nothing is done."""
    with control_plane(tmp_path_factory.mktemp("cp")) as plane:
        yield typed(plane)


def typed(plane: RunningControlPlane) -> Run:
    def invoke(*arguments: str) -> Result:
        return CliRunner(env={"HOSTMESH_CONTROL_SOCKET": str(plane.socket)}).invoke(main, ["ca", *arguments])

    return invoke


def enrolled(running: RunningControlPlane) -> int:
    """A node; the serial number of its certificate."""
    endpoint, root = Endpoint("127.0.0.1", running.port), running.directory / "state" / "ca" / "root-cert.pem"
    token = running.client.token("mesh1", 60)["token"]

    async def main() -> int:
        serial = (await enrol(ControlPlane(endpoint, root), "mesh1", "cluster.local", token)).serial
        loop: Any = asyncio.get_running_loop()
        await until(lambda: len(loop._selector.get_map()) == 1)  # the connection has said goodbye
        return serial

    return asyncio.run(main())


def test_reasons_are_the_control_planes() -> None:
    """The list is said twice, because the command starts without the control plane's libraries."""
    assert ca._REASONS == REASONS


def test_revoking_a_node_and_admitting_it_again(running: RunningControlPlane, run: Run) -> None:
    """Transcript: by name, with its certificate; listed; unrevoked, but not its certificate; all of it audited."""
    serial = f"{enrolled(running):x}"
    result = run("revoke", "--identity", NODE, "--reason", "keyCompromise")
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first.startswith(f"revoked {serial} of {NODE} on node mesh1, valid until 20")
    assert second == f"{NODE} gets no certificate until `hostmesh ca unrevoke --identity {NODE}`"
    listed = run("revoked").stdout
    assert f"{serial} {NODE}" in listed
    assert listed.count("keyCompromise") == 2
    assert run("unrevoke", "--identity", NODE).stdout == f"{NODE} is not revoked any more\n"
    found = json.loads(run("revoked", "-o", "json").stdout)
    assert (found["identities"], [one["serial"] for one in found["serials"]]) == ([], [serial])
    refused = run("unrevoke", "--serial", serial)
    assert refused.exit_code == 1
    assert "was not revoked as certificateHold; its owner gets a new one by itself" in refused.stderr
    steps = [
        json.loads(line).get("step") for line in (running.directory / "state" / "audit.log").read_text().splitlines()
    ]
    assert [step for step in steps if step] == ["revoke", "unrevoke", "unrevoke"]


def test_a_number_that_nobody_knows_is_revoked_all_the_same(run: Run) -> None:
    """A certificate that an older version has issued; colons are how others print it."""
    result = run("revoke", "--serial", "0A:FF")
    assert result.stdout.startswith("revoked 0A:FF, a number that this control plane has not issued")
    assert "aff " in run("revoked").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("revoke",), 2, "name one: an identity (spiffe://...) or a certificate"),
        (("revoke", "--identity", NODE, "--serial", "1"), 2, "name one: an identity (spiffe://...) or a certificate"),
        (("revoke", NODE, "--serial", "1"), 2, "name one: an identity (spiffe://...) or a certificate"),
        (("revoke", NODE, "--identity", "spiffe://a/ns/b/sa/c"), 2, "name one: an identity"),
        (("unrevoke", NODE), 1, "is not revoked; `hostmesh ca revoked` lists what is"),
        (("revoke", "x"), 1, "'x' is not a serial number in hexadecimal"),
        (("revoke", "--serial", "x"), 1, "'x' is not a serial number in hexadecimal"),
        (("revoke", "--serial", "1", "--reason", "spite"), 2, "Invalid value for '--reason'"),
        (("revoke", "--identity", "mesh1"), 1, "does not start with spiffe://"),
        (("unrevoke", "--identity", NODE), 1, "is not revoked; `hostmesh ca revoked` lists what is"),
        (("rotate", "finish"), 1, "no rotation goes on; `hostmesh ca rotate start` begins one"),
    ],
)
def test_mistakes(run_of_mistakes: Run, arguments: tuple[str, ...], code: int, words: str) -> None:
    """What, why, next step; nothing is done."""
    result = run_of_mistakes(*arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert run_of_mistakes("revoked").stdout == "nothing is revoked\n"


def test_a_rotation_that_waits_is_forced(running: RunningControlPlane, run: Run) -> None:
    """Transcript: start, what it waits for, refusal, force, end; the audit log has what was overruled."""
    assert run("rotate", "status").stdout == "no rotation goes on\n"
    enrolled(running)
    started = run("rotate", "start").stdout
    assert "rotation: overlap since" in started
    assert "the switch waits: not connected, with certificates from before the rotation: mesh1 (until" in started
    assert run("rotate", "finish", "--force").exit_code == 1
    switched = run("rotate", "switch", "--force")
    assert "overruled: not connected" in switched.stderr
    assert "`hostmesh ca rotate finish` waits: certificates of the old root may live until" in switched.stdout
    status = run("status").stdout
    assert status.startswith("signer: O=hostmesh,CN=cluster.local root ") or "CN=cluster.local root " in status
    assert "agents: 0 connected, 0 with the present roots and revocations" in status
    refused = run("rotate", "finish")
    assert refused.exit_code == 1
    assert "cannot finish:" in refused.stderr
    finished = run("rotate", "finish", "--force")
    assert finished.stdout.startswith("no rotation goes on; the root is ")
    log = (running.directory / "state" / "audit.log").read_text()
    assert "certificates of the old root may live until" in log


def test_a_rotation_is_given_up(run: Run) -> None:
    """Before anything was signed it leaves no trace."""
    run("rotate", "start")
    assert run("rotate", "abort").stdout.startswith("no rotation goes on")
    assert len(json.loads(run("status", "-o", "json").stdout)["roots"]) == 1
