"""The control plane as a process: start, stop, and what is said when it cannot."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from tests.support.addresses import free_port
from tests.support.control_plane import command, configure, control_plane
from tests.support.documents import document
from tests.support.patience import PATIENCE


def start(config: Path) -> tuple[int, str]:
    """Exit status and output of a start that is to fail."""
    done = subprocess.run(command(config), capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stderr


def test_it_serves_tls_and_ends_cleanly(tmp_path: Path) -> None:
    """The port speaks h2 under the mesh's root; SIGTERM ends it with status 0 and leaves no socket."""
    with control_plane(tmp_path) as running:
        context = ssl.create_default_context(cafile=str(tmp_path / "state" / "ca" / "root-cert.pem"))
        context.set_alpn_protocols(["h2"])

        address = ("127.0.0.1", running.port)
        with socket.create_connection(address, 5) as raw, context.wrap_socket(raw, server_hostname=address[0]) as tls:
            assert tls.selected_alpn_protocol() == "h2"
        output = running.stop()
        assert running.process.returncode == 0, output
        assert "control plane stopped" in output
        assert not running.socket.exists()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_reload_takes_over_what_needs_no_restart(tmp_path: Path) -> None:
    """Documents mean something else at once, and what needs a restart is named."""

    def warned() -> bool:
        found = running.client.apply([{"source": "p.yaml", "text": policy}], dry_run=True)
        return "no extensionProvider 'opa'" in str(found["warnings"])

    spec = "action: CUSTOM\nprovider: {name: opa}\nrules: [{to: [{operation: {paths: [/x]}}]}]\n"
    policy = document(
        "AuthorizationPolicy",
        f"{spec}targetRefs: [{{kind: Gateway, group: gateway.networking.k8s.io, name: w}}]",
        "name: p",
    )
    with control_plane(tmp_path) as running:
        assert warned()
        settings = yaml.safe_load(running.config.read_text())
        provider = {"name": "opa", "envoyExtAuthzGrpc": {"service": "opa.lab", "port": 9191}}
        settings |= {"extensionProviders": [provider], "trust_domain": "example.org"}
        running.config.write_text(yaml.safe_dump(settings))
        running.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while warned():
            assert time.monotonic() < deadline
        output = running.stop()
    assert "a restart is needed for trust_domain" in output


def test_a_second_one_is_refused(tmp_path: Path) -> None:
    """It says who is in the way, and the first does not notice."""
    with control_plane(tmp_path) as running:
        code, said = start(running.config)
        assert (code, said) == (1, f"Error: {running.socket}: another control plane is running; stop it first\n")
        other = tmp_path / "other"
        other.mkdir()
        code, said = start(configure(other, running.port))
        assert code == 1
        assert said.startswith(f"Error: cannot listen on 127.0.0.1:{running.port}: ")
        assert running.client.status()["port"] == running.port


def test_what_it_cannot_use_is_named(tmp_path: Path) -> None:
    """A mistake in the configuration, a state directory in the way, records that are none."""
    config = configure(tmp_path, free_port())
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "records.jsonl").write_text('{"a": "b"}\n{\n')
    code, said = start(config)
    assert code == 1
    assert f"{tmp_path}/state/records.jsonl:2: is damaged" in said
    config.write_text("state_dir: /proc/nowhere")
    code, said = start(config)
    assert (code, said.partition(";")[2]) == (
        1,
        " make the directory, owned by the user that runs the control plane\n",
    )
    config.write_text("stat_dir: /x")
    code, said = start(config)
    assert (code, said.partition(";")[0]) == (1, f"Error: {config}:1: stat_dir: unknown field")


@pytest.mark.parametrize("broken", [False, True])
def test_files_are_followed(tmp_path: Path, broken: bool) -> None:
    """A new file is live within two looks, or its mistake is shown while the rest stays."""
    with control_plane(tmp_path) as running:
        text = document("WorkloadEntry", "address: 10.0.0.1\nserviceAccount: a", "name: a")
        (running.documents / "a.yaml").write_text(text.replace("address", "adress") if broken else text)

        async def change() -> dict[str, object]:
            async with asyncio.timeout(PATIENCE):
                while True:
                    found: dict[str, object] = running.client.status()["documents"]
                    if found["problems"] or found["objects"]:
                        return found
                    await asyncio.sleep(0.1)

        found = asyncio.run(change())
        assert bool(found["problems"]) == broken
        assert found["objects"] == (0 if broken else 1)
