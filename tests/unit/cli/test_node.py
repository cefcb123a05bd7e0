"""hostmesh node and token against a real control plane: what an operator and a playbook see."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.control_plane import RunningControlPlane, control_plane
from tests.support.host_keys import HostKeys

from hostmesh.cli import main

KEYS = HostKeys().public
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningControlPlane]:
    with control_plane(tmp_path_factory.mktemp("cp")) as running:
        yield running


@pytest.fixture
def run(running: RunningControlPlane) -> Run:
    def call(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(main, [*arguments, "--socket", str(running.socket)], input=stdin)

    return call


def audited(running: RunningControlPlane) -> list[dict[str, object]]:
    return [json.loads(line) for line in (running.directory / "state" / "audit.log").read_text().splitlines()]


def test_the_life_of_a_node(run: Run, running: RunningControlPlane) -> None:
    """Registered, said once more without effect, listed, keys replaced, removed; each change is in the audit log."""
    first, second = (str(key) for key in KEYS)
    added = run("node", "add", "--name", "mesh2", "--host-key", first)
    assert (added.exit_code, added.output.splitlines()[0]) == (0, "node mesh2 registered")
    again = run("node", "add", "--name", "mesh2", "--host-key", "-", "--replace", "-o", "json", stdin=f"{first} c\n")
    assert json.loads(again.output)["changed"] is False
    assert run("node", "list").output.splitlines() == [
        f"NODE    HOST KEYS{' ' * (len(KEYS[0].fingerprint) + 8)}REGISTERED BY",
        f"mesh2   {KEYS[0].fingerprint} (ssh-ed25519)   operator",
    ]
    replaced = run("node", "add", "--name", "mesh2", "--host-key", second, "--replace", "-o", "json")
    assert [key["key"] for key in json.loads(replaced.output)["host_keys"]] == [second]
    assert run("node", "remove", "--name", "mesh2").output == "node mesh2 removed\n"
    gone = run("node", "remove", "--name", "mesh2")
    assert (gone.exit_code, "node 'mesh2' is not registered" in gone.output) == (1, True)
    results = [entry["result"] for entry in audited(running) if entry["event"] == "node"]
    assert results == ["registration requested"] * 2 + ["removal requested"]


def test_keys_are_taken_from_files(run: Run, tmp_path: Path) -> None:
    """Of known_hosts the node's own lines only, whatever stands there of others."""
    others = HostKeys().public
    known = tmp_path / "known_hosts"
    known.write_text(f"# lab\nmesh7,10.0.0.7 {KEYS[0]}\n[mesh8]:22 {others[0]}\nmesh77 {others[1]}\n")
    added = run("node", "add", "--name", "mesh7", "--host-key", str(known), "-o", "json")
    assert [key["key"] for key in json.loads(added.output)["host_keys"]] == [str(KEYS[0])]
    bracketed = run("node", "add", "--name", "mesh8", "--host-key", str(known), "-o", "json")
    assert [key["key"] for key in json.loads(bracketed.output)["host_keys"]] == [str(others[0])]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read (No such file or directory); give a .pub file"),
        ("", "there is no host key of mesh5"),
        ("mesh6 ssh-ed25519 AAAA\n", "there is no host key of mesh5"),
        ("# x\nssh-ed25519 AAAA\n", ":2: the key is cut short"),
        ("mesh5 ssh-dss AAAA\n", ":1: a key of the kind 'ssh-dss' proves no host"),
    ],
)
def test_what_is_no_key_is_named_by_its_line(run: Run, tmp_path: Path, content: str | None, why: str) -> None:
    """Nothing is registered."""
    file = tmp_path / "key.pub"
    if content is not None:
        file.write_text(content)
    result = run("node", "add", "--name", "mesh5", "--host-key", str(file))
    assert (result.exit_code, why in result.output) == (1, True), result.output


def test_the_control_plane_s_reasons_are_shown(run: Run) -> None:
    """Such as that two hosts have one key."""
    key = str(HostKeys().public[0])
    run("node", "add", "--name", "mesh3", "--host-key", key)
    result = run("node", "add", "--name", "mesh4", "--host-key", key)
    assert (result.exit_code, "is that of node mesh3: make new host keys" in result.output) == (1, True)


def test_the_life_of_a_token(run: Run, running: RunningControlPlane) -> None:
    """Bound to a key and to networks, listed without its secret, revoked."""
    fingerprint = KEYS[0].fingerprint
    bound = ["--host-key", fingerprint, "--address", "10.0.0.0/8", "--address", "192.0.2.7"]
    token = run("token", "create", "--node", "mesh2", "--ttl", "10m", *bound).output.strip()
    identifier, _, secret = token.partition(".")
    listing = run("token", "list").output
    (row,) = [line for line in listing.splitlines() if line.startswith(identifier)]
    assert row.split()[1:3] == ["mesh2", "open"]
    assert row.endswith(f"{fingerprint}, 10.0.0.0/8, 192.0.2.7/32")
    assert secret not in listing + run("token", "list", "-o", "json").output
    assert run("token", "revoke", identifier).output == f"token {identifier} of node mesh2 is revoked\n"
    unknown = run("token", "revoke", "nonsense")
    assert (unknown.exit_code, "`hostmesh token list` shows which there are" in unknown.output) == (1, True)
    results = [entry["result"] for entry in audited(running) if entry["event"] == "token"]
    assert results == ["requested", "revocation requested", "revocation requested"]


@pytest.mark.parametrize(
    ("bound", "why"),
    [
        (["--address", "10.0.0.0/33"], "does not appear to be an IPv4 or IPv6 network"),
        (["--host-key", "/nowhere"], "/nowhere: cannot be read"),
    ],
)
def test_a_token_is_not_bound_to_nonsense(run: Run, bound: list[str], why: str) -> None:
    """None is minted."""
    result = run("token", "create", "--node", "mesh2", *bound)
    assert (result.exit_code, why in result.output) == (1, True), result.output


def test_a_token_is_bound_to_one_key(run: Run, tmp_path: Path) -> None:
    """Of a file with several, somebody has to say which."""
    file = tmp_path / "keys"
    file.write_text("\n".join(map(str, KEYS)))
    result = run("token", "create", "--node", "mesh2", "--host-key", str(file))
    assert (result.exit_code, "it holds 2 keys of mesh2" in result.output) == (1, True)
