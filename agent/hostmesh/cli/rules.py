"""`hostmesh rules`: the rules of capture on this host: planned, compared, applied, confirmed, reverted, removed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import click

from hostmesh.cli.output import output_option, structured
from hostmesh.config.agent import DEFAULT_CONFIG, AgentConfig, load
from hostmesh.config.durations import parse_duration
from hostmesh.config.settings import Settings
from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.daemon.capture_settings import capture_settings
from hostmesh.daemon.failsafe import ControlPlaneAddresses
from hostmesh.enrolment import failsafe
from hostmesh.enrolment.capture import Capture, Preview
from hostmesh.enrolment.capture_settings import HostView
from hostmesh.enrolment.confirm import (
    AlreadyPending,
    Confirmation,
    Files,
    NotConfirmed,
    NothingPending,
    boot_id,
    read,
)
from hostmesh.enrolment.numbers import NumbersUnreadable
from hostmesh.kernel.cgroup import find_root
from hostmesh.kernel.iptables import Family
from hostmesh.kernel.python_iptables import PythonIptables
from hostmesh.model.endpoint import Endpoint

AGENT = "hostmesh-agent.service"
_ERRORS = (InvalidYaml, NumbersUnreadable, AlreadyPending, NothingPending, NotConfirmed, OSError)


@click.group()
@click.option(
    "--config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True, help="Configuration file."
)
@click.pass_context
def rules(ctx: click.Context, config: Path) -> None:
    """This host's rules of capture: plan, diff, apply, confirm, revert, remove."""
    ctx.obj = config


_workloads_dir = click.option(
    "--workloads-dir", type=click.Path(path_type=Path), help="Instead of the workloads_dir of the configuration."
)


@rules.command()
@_workloads_dir
@click.option("--check-lockout", is_flag=True, help="Fail if ssh or what repairs this host would be captured.")
@output_option
@click.pass_obj
def plan(config: Path, workloads_dir: Path | None, check_lockout: bool, output: str) -> None:
    """Show the rules that workloads.d comes to. Changes nothing."""
    with _said():
        preview = _capture(_load(config), workloads_dir).preview()
    if not structured(output, _json(preview)) and not check_lockout:
        click.echo(preview.text, nl=False)
    for problem in preview.problems:
        click.echo(f"warning: {problem}", err=True)
    if check_lockout:
        _refuse(preview)
        if output == "table":
            click.echo("nobody is locked out")


@rules.command()
@_workloads_dir
@output_option
@click.pass_obj
def diff(config: Path, workloads_dir: Path | None, output: str) -> None:
    """Show how the kernel differs from workloads.d. Changes nothing.

    Exit status 1 if it does.
    """
    with _said():
        preview = _capture(_load(config), workloads_dir).preview()
    if not structured(output, {"differences": list(preview.differences)}):
        for line in preview.differences:
            click.echo(line)
        if not preview.differences:
            click.echo("no difference: the kernel has what workloads.d asks for", err=True)
    if preview.differences:
        sys.exit(1)


@rules.command()
@click.option("--confirm-within", metavar="TIME", help="Go back unless `hostmesh rules confirm` comes in time: 30s.")
@click.option("--force", is_flag=True, help="Even if somebody would be locked out.")
@click.pass_obj
def apply(config: Path, confirm_within: str | None, force: bool) -> None:
    """Make this host agree with workloads.d and agent.yaml.

    A running agent is told to; without one the rules are laid out here, and captured connections are refused until it
    runs.
    """
    with _said():
        within = _duration(confirm_within)
        settings = _load(config)
        capture = _capture(settings)
        preview = capture.preview()
        if not force:
            _refuse(preview)
        confirmation, places = _confirmation(settings, config), _places(settings, config)
        if within is not None:
            before = _before(confirmation, preview, config)
            confirmation.begin(places, within, _session(), before)
        try:
            changes = _apply(settings, capture)
        except OSError:
            if within is not None:
                list(_revert(settings, config))
            raise
        if within is None:
            confirmation.remember(places)
    for line in changes:
        click.echo(line)
    if within is not None:
        click.echo(f"next, within {within:.0f} s and over a new connection: hostmesh rules confirm")


@rules.command()
@click.option("--confirm-within", metavar="TIME", default="30s", show_default=True)
@click.pass_obj
def hold(config: Path, confirm_within: str) -> None:
    """Remember agent.yaml and workloads.d before you change them.

    They come back, and the agent is told, unless `hostmesh rules confirm` comes in time.
    """
    with _said():
        settings = _load(config)
        within = parse_duration(confirm_within)
        _confirmation(settings, config).begin(_places(settings, config), within, _session())
    click.echo(f"within {within:.0f} s: change, reload, and over a new connection: hostmesh rules confirm")


@rules.command()
@click.pass_obj
def confirm(config: Path) -> None:
    """Keep the change that waits.

    Over a connection that is newer than it.
    """
    with _said():
        _confirmation(_load(config), config).confirm(_session())
    click.echo("confirmed")


@rules.command()
@click.option("--after-reboot", is_flag=True, help="Only if this host was booted since, and apply nothing.")
@click.pass_obj
def revert(config: Path, after_reboot: bool) -> None:
    """Undo the change that waits for a confirmation, now. The timer does this when its time has come."""
    with _said():
        if after_reboot:
            confirmation = _confirmation(_load(config, broken_is_default=True), config)
            change = confirmation.pending
            if change is not None and change.boot != boot_id():
                click.echo("\n".join(f"{changed}: as before" for changed in confirmation.revert()))
            return
        for line in _revert(_load(config, broken_is_default=True), config):
            click.echo(line)


@rules.command()
@click.pass_obj
def remove(config: Path) -> None:
    """Capture nothing any more: remove our rules, and nothing else. Stop the agent first, or it lays them out again."""
    settings = _load(config)
    if _agent_runs():
        raise click.ClickException(f"{AGENT} runs and would lay them out again; next: systemctl stop {AGENT}")
    with _said():
        _capture(settings).remove()
    click.echo("removed")


@rules.command()
@click.argument("file", type=click.Path(path_type=Path))
def start(file: Path) -> None:
    """Lay out the rules of FILE as a service starts.

    With python-iptables, for both families; for its drop-in.
    """
    with _said(), closing(PythonIptables()) as tables:
        text = file.read_text()
        for family in Family:
            tables.restore(family, text)


def _load(config: Path, *, broken_is_default: bool = False) -> AgentConfig:
    try:
        return load(config, os.environ)
    except InvalidYaml as error:
        if broken_is_default:
            return AgentConfig(Settings())
        raise click.ClickException(str(error)) from error


def _capture(config: AgentConfig, workloads_dir: Path | None = None) -> Capture:
    s = config.settings
    cgroups = find_root()
    endpoints = () if s.local else tuple(map(Endpoint.parse, s.control_plane.everywhere))
    control_plane = ControlPlaneAddresses(endpoints)
    view = HostView(failsafe=lambda: failsafe.read(cgroups, control_plane(), s.proxy_user))
    settings = capture_settings(config)
    if workloads_dir is not None:
        settings = replace(settings, workloads_directory=workloads_dir)
    return Capture(settings, cgroups, view=view)


def _confirmation(config: AgentConfig, path: Path) -> Confirmation:
    command = (str(Path(sys.argv[0]).absolute()), "rules", "--config", str(path), "revert")
    return Confirmation(config.settings.state_dir / "confirm", command)


def _places(config: AgentConfig, path: Path) -> list[Path]:
    return [path, path.parent / "conf.d", config.settings.workloads_dir]


def _session() -> str:
    return failsafe.ssh_connection()


def _duration(text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _refuse(preview: Preview) -> None:
    if preview.lockouts:
        raise click.ClickException("this would lock somebody out, nothing was changed:\n" + "\n".join(preview.lockouts))


def _agent_runs() -> bool:
    try:
        done = subprocess.run(["systemctl", "is-active", "--quiet", AGENT], check=False)  # noqa: S603, S607 - root's own tool
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _apply(config: AgentConfig, capture: Capture) -> tuple[str, ...]:
    if not _agent_runs():
        s = config.settings
        s.runtime_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        s.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        changes = capture.refresh(strict=True).changes
        for directory in (s.state_dir, s.runtime_dir):
            _hand_over(directory)
        return changes
    done = subprocess.run(["systemctl", "reload", AGENT], capture_output=True, text=True, check=False)  # noqa: S603, S607 - root's own tool
    if done.returncode != 0:
        raise OSError(f"the agent refuses it; next: journalctl -u {AGENT}: {done.stderr.strip()}")
    return (f"{AGENT} was told",)


def _hand_over(directory: Path) -> None:
    """What was written here as root is the agent's, as its folder is."""
    owner = directory.stat()
    for file in (
        directory / name for name in ("marks.json", "backend", "capture.json", "capture-iptables.json", "units")
    ):
        if file.exists():
            os.chown(file, owner.st_uid, owner.st_gid)


def _before(confirmation: Confirmation, preview: Preview, config: Path) -> Files:
    """What an unconfirmed change goes back to: what was applied last, or that nothing is captured."""
    before = confirmation.remembered
    if before is not None:
        return before
    if not any(("is not there" in line or "or of none" in line) for line in preview.differences):
        raise NothingPending(
            "it is not known what was applied before this change; next: put it back, `hostmesh rules hold`, "
            "change it again, systemctl reload hostmesh-agent, `hostmesh rules confirm`"
        )
    return read([config, config.parent / "conf.d"])


def _revert(config: AgentConfig, path: Path) -> Iterator[str]:
    for changed in _confirmation(config, path).revert():
        yield f"{changed}: as before"
    settings = _load(path)
    capture = _capture(settings)
    try:
        yield from _apply(settings, capture)
    except (*_ERRORS, click.ClickException) as error:
        # the operator comes first: without rules everybody connects as before there was a mesh
        capture.remove()
        yield f"what was before cannot be applied ({error}): nothing is captured now"


def _json(preview: Preview) -> dict[str, object]:
    intent = preview.ruleset.intent
    return {
        "workloads": [
            *({"workload": one.workload.key, "unit": one.workload.unit, "cgroup": one.cgroup} for one in intent.units),
            *({"workload": one.workload.key, "uid": one.uid, "ports": list(one.ports)} for one in intent.users),
            *([{"workload": intent.host.workload.key, "host": True}] if intent.host is not None else []),
        ],
        "failsafe": {
            "inboundPorts": list(intent.reserved.inbound_ports),
            "outbound": [f"{network} {port or '*'}" for network, port in intent.reserved.outbound],
            "owners": list(intent.reserved.owners),
        },
        "lockouts": list(preview.lockouts),
        "differences": list(preview.differences),
        "rules": preview.text.splitlines(),
    }


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise click.ClickException(f"{error.filename or error}: not permitted; run this as root") from error
    except _ERRORS as error:
        raise click.ClickException(str(error)) from error
