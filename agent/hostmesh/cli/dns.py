"""`hostmesh dns`: the host's resolver asks the agent for names of the mesh, and for nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import click

from hostmesh.config.agent import DEFAULT_CONFIG, load
from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.dns import integration
from hostmesh.dns.integration import NotPlain, Resolver
from hostmesh.kernel.files import write_atomically

_ROOT = click.option("--root", default="/", type=click.Path(path_type=Path), hidden=True, help="For tests.")
_RESOLVER = click.option(
    "--resolver",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", *(one.value for one in Resolver)]),
    help="What resolves names on this host.",
)


@click.group()
def dns() -> None:
    """Let the resolver of this host find names of the mesh."""


@dns.command()
@_RESOLVER
@click.option("--config", default=DEFAULT_CONFIG, type=click.Path(path_type=Path), help="The agent's settings.")
@_ROOT
def integrate(resolver: str, config: Path, root: Path) -> None:
    """Send names of the mesh's domains to the agent.

    Ordinary names go where they went.

    Says `changed` or `unchanged`. With the agent stopped ordinary names go on resolving.
    """
    try:
        settings = load(config, os.environ).settings.dns
    except InvalidYaml as invalid:
        raise click.ClickException(str(invalid)) from invalid
    if not settings.enabled:
        raise click.ClickException("dns.enabled is false in agent.yaml: nobody would answer; next: set it, and reload")
    found = _detect(root) if resolver == "auto" else Resolver(resolver)
    if found is Resolver.RESOLV_CONF and not settings.plain:
        raise click.ClickException("dns.plain is false in agent.yaml: resolv.conf cannot name a port; next: set it")
    changed = _ways(root, settings.split, settings.port)[found]()
    click.echo(f"{found.value}: {'changed' if changed else 'unchanged'}")


@dns.command()
@_ROOT
def remove(root: Path) -> None:
    """Undo `integrate`, whichever resolver it was."""
    changed = _drop(root / _DNSMASQ, ["systemctl", "try-restart", "dnsmasq"])
    changed |= _drop(root / _UNBOUND, ["systemctl", "try-reload-or-restart", "unbound"])
    link = Path("/sys/class/net") / integration.LINK_NAME
    if root == Path("/") and link.exists():
        _run(["ip", "link", "delete", integration.LINK_NAME])
        changed = True
    file = root / "etc/resolv.conf"
    if file.is_file() and not file.is_symlink():
        text = file.read_text()
        changed |= _write(file, integration.without_agent(text))
    click.echo("changed" if changed else "unchanged")


_DNSMASQ = Path("etc/dnsmasq.d/hostmesh.conf")
_UNBOUND = Path("etc/unbound/unbound.conf.d/hostmesh.conf")


def _detect(root: Path) -> Resolver:
    """The one that resolv.conf leads to."""
    text = (root / "etc/resolv.conf").read_text() if (root / "etc/resolv.conf").exists() else ""
    servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]
    if "127.0.0.53" in servers:
        return Resolver.SYSTEMD_RESOLVED
    if any(server in ("127.0.0.1", "::1") for server in servers):
        if (root / "etc/dnsmasq.d").is_dir() and shutil.which("dnsmasq"):
            return Resolver.DNSMASQ
        if (root / "etc/unbound/unbound.conf.d").is_dir():
            return Resolver.UNBOUND
    return Resolver.RESOLV_CONF


def _ways(root: Path, domains: tuple[str, ...], port: int) -> dict[Resolver, Callable[[], bool]]:
    def put(file: Path, text: str, then: list[str]) -> bool:
        changed = _write(root / file, text)
        if changed and root == Path("/"):
            _run(then)
        return changed

    dnsmasq, unbound = integration.dnsmasq(domains, port), integration.unbound(domains, port)
    return {
        Resolver.SYSTEMD_RESOLVED: lambda: _resolved(domains, port),
        Resolver.DNSMASQ: lambda: put(_DNSMASQ, dnsmasq, ["systemctl", "try-restart", "dnsmasq"]),
        Resolver.UNBOUND: lambda: put(_UNBOUND, unbound, ["systemctl", "try-reload-or-restart", "unbound"]),
        Resolver.RESOLV_CONF: lambda: _plain(root / "etc/resolv.conf"),
    }


def _resolved(domains: tuple[str, ...], port: int) -> bool:
    """The link may be there already, as after a restart of the unit that runs this."""
    fresh = not (Path("/sys/class/net") / integration.LINK_NAME).exists()
    if fresh:
        _make_link()
    for command in integration.resolved_commands(domains, port):
        _run(command)
    return fresh


def _make_link() -> None:
    dummy, veth = integration.link_commands()
    try:
        _all(dummy)
    except click.ClickException:
        _all(veth)


def _all(commands: list[list[str]]) -> None:
    for command in commands:
        _run(command)


def _plain(file: Path) -> bool:
    if file.is_symlink():
        raise click.ClickException(
            f"{file} is a link to {file.readlink()}, which another program writes; next: --resolver says which one"
        )
    try:
        return _write(file, integration.with_agent(file.read_text()))
    except FileNotFoundError as error:
        raise click.ClickException(f"{file}: no such file") from error
    except NotPlain as error:
        raise click.ClickException(f"{file}: {error}") from error


def _write(file: Path, text: str) -> bool:
    if file.exists() and file.read_text() == text:
        return False
    if not file.parent.is_dir():
        raise click.ClickException(f"{file.parent}: no such directory; is that resolver installed?")
    write_atomically(file, text.encode(), 0o644)
    return True


def _drop(file: Path, then: list[str]) -> bool:
    if not file.exists():
        return False
    file.unlink()
    if file.is_relative_to("/etc"):
        _run(then)
    return True


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)  # noqa: S603 - fixed words
    except FileNotFoundError as error:
        raise click.ClickException(f"{command[0]} is not installed") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise click.ClickException(f"{' '.join(command)}: {' '.join(str(said).split())}") from error
