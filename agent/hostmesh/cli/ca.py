"""`hostmesh ca`: revocation, root rotation, and what the mesh trusts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from hostmesh.cli.client import Client, socket_option
from hostmesh.cli.output import output_option, structured
from hostmesh.cli.status import table

Json = dict[str, Any]

_REASONS = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
    "privilegeWithdrawn",
    "aACompromise",
)

_force = click.option("--force", is_flag=True, help="Do it although agents may be cut off; the audit log says so.")


def _subject(command: Callable[..., None]) -> Callable[..., None]:
    command = click.argument("subject", required=False)(command)
    command = click.option("--serial", default="", help="One certificate, by its serial number in hexadecimal.")(
        command
    )
    return click.option("--identity", default="", help="A workload or node, as spiffe://<trust domain>/ns/../sa/..")(
        command
    )


@click.group()
def ca() -> None:
    """Manage the mesh's certificate authority."""


@ca.command()
@output_option
@socket_option
def status(output: str, path: Path) -> None:
    """Show who signs, whom the mesh trusts, and who has not heard."""
    found = Client(path).ca()
    if structured(output, found):
        return
    kind = "plugged in" if found["plugged"] else "self-signed root"
    click.echo(f"signer: {found['signer']['subject']} ({kind}), until {_moment(found['signer']['notAfter'])}")
    if found["problem"]:
        click.echo(f"not in use: {found['problem']}")
    rows: list[tuple[str, ...]] = [("ROOT", "KEY ID", "UNTIL"), *_roots(found["roots"])]
    click.echo("\n".join(table(rows)))
    _print_agents(found["agents"])
    if found["rotation"] is not None:
        _print_rotation(found["rotation"])


@ca.command()
@_subject
@click.option("--reason", type=click.Choice(_REASONS), default="unspecified", show_default=True, help="For the CRL.")
@socket_option
def revoke(subject: str | None, identity: str, serial: str, reason: str, path: Path) -> None:
    """Take back an identity with its certificates, or one of them.

    SUBJECT is either: spiffe://<trust domain>/ns/../sa/.., or a serial number.

    Every agent refuses it and closes its connections within a second. A revoked identity gets no certificate until
    `unrevoke`; a revoked certificate is replaced by its owner, if it still may have one.
    """
    identity, serial = _named(subject, identity, serial)
    certificates = Client(path).ca_revoke(identity, serial, reason)["certificates"]
    for one in certificates:
        where = f" on node {one['node']}" if one["node"] else ""
        click.echo(f"revoked {one['serial']} of {one['identity']}{where}, valid until {_moment(one['not_after'])}")
    if identity:
        click.echo(f"{identity} gets no certificate until `hostmesh ca unrevoke --identity {identity}`")
    elif not certificates:
        click.echo(
            f"revoked {serial}, a number that this control plane has not issued or whose certificate has expired"
        )


@ca.command()
@_subject
@socket_option
def unrevoke(subject: str | None, identity: str, serial: str, path: Path) -> None:
    """Admit an identity again, or take back a hold.

    SUBJECT is either: spiffe://<trust domain>/ns/../sa/.., or a serial number.

    Certificates that were revoked for another reason than certificateHold stay revoked: their owners get new ones.
    """
    identity, serial = _named(subject, identity, serial)
    Client(path).ca_unrevoke(identity, serial)
    click.echo(f"{identity or serial} is not revoked any more")


@ca.command()
@output_option
@socket_option
def revoked(output: str, path: Path) -> None:
    """List what is revoked and has not expired."""
    found = Client(path).ca_revoked()
    if structured(output, found):
        return
    rows: list[tuple[str, ...]] = [("REVOKED", "REASON", "SINCE", "UNTIL")]
    rows += [(one["identity"], one["reason"], _moment(one["revoked_at"]), "unrevoked") for one in found["identities"]]
    rows += [
        (
            f"{one['serial']} {one['identity']}".strip(),
            one["reason"],
            _moment(one["revoked_at"]),
            _moment(one["not_after"]),
        )
        for one in found["serials"]
    ]
    click.echo("\n".join(table(rows)) if len(rows) > 1 else "nothing is revoked")


@ca.group()
def rotate() -> None:
    """Replace the root, step by step, without cutting anybody off.

    `start` makes a new root and tells every agent. When all that live have heard, the control plane lets the new root
    sign. `finish` dismisses the old one, as soon as nothing that it has signed can be alive.
    """


@rotate.command("start")
@socket_option
def rotate_start(path: Path) -> None:
    """Make a new root and tell every agent.

    The switch follows by itself.
    """
    _step(path, "start", force=False)


@rotate.command("status")
@output_option
@socket_option
def rotate_status(output: str, path: Path) -> None:
    """Show where the rotation is and what it waits for."""
    rotation = Client(path).ca()["rotation"]
    if structured(output, rotation):
        return
    if rotation is None:
        click.echo("no rotation goes on")
    else:
        _print_rotation(rotation)


@rotate.command("switch")
@_force
@socket_option
def rotate_switch(force: bool, path: Path) -> None:
    """Let the new root sign now.

    Needed only to overrule what the rotation waits for.
    """
    _step(path, "switch", force=force)


@rotate.command("finish")
@_force
@socket_option
def rotate_finish(force: bool, path: Path) -> None:
    """Dismiss the root that does not sign.

    Refused while anybody may live on it.
    """
    _step(path, "finish", force=force)


@rotate.command("abort")
@socket_option
def rotate_abort(path: Path) -> None:
    """Stay with the old root.

    After the switch it signs again, and `finish` dismisses the new one.
    """
    _step(path, "abort", force=False)


def _step(path: Path, step: str, *, force: bool) -> None:
    found = Client(path).ca_rotate(step, force=force)
    for reason in found["overruled"]:
        click.echo(f"overruled: {reason}", err=True)
    if found["rotation"] is None:
        click.echo(f"no rotation goes on; the root is {found['signer']['subject']}")
    else:
        _print_rotation(found["rotation"])


def _print_rotation(rotation: Json) -> None:
    click.echo(f"rotation: {rotation['phase']} since {_moment(rotation['changed'])}")
    next_step = "the switch" if rotation["phase"] == "overlap" else "`hostmesh ca rotate finish`"
    for reason in rotation["waiting"]:
        click.echo(f"  {next_step} waits: {reason}")
    if not rotation["waiting"]:
        click.echo(f"  nothing stands against {next_step}")


def _print_agents(agents: Json) -> None:
    behind = sorted(node for node, state in agents.items() if not (state["follows"] and state["current"]))
    click.echo(f"agents: {len(agents)} connected, {len(agents) - len(behind)} with the present roots and revocations")
    for node in behind:
        why = "has not confirmed yet" if agents[node]["follows"] else "does not follow; learns roots with certificates"
        click.echo(f"  {node} {why}")


def _roots(roots: list[Json]) -> list[tuple[str, ...]]:
    return [(root["subject"], root["keyId"], _moment(root["notAfter"])) for root in roots]


def _named(subject: str | None, identity: str, serial: str) -> tuple[str, str]:
    if subject is not None:
        identity, serial = (identity or subject, serial) if "://" in subject else (identity, serial or subject)
    if bool(identity) == bool(serial) or subject not in (None, identity, serial):
        raise click.UsageError("name one: an identity (spiffe://...) or a certificate, by its serial number")
    return identity, serial


def _moment(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
