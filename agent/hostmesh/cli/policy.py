"""`hostmesh policy`: unit tests of policies for a user's CI, and policies suggested from what was seen."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hostmesh.admin.explain import explain
from hostmesh.admin.parties import NotUnderstood
from hostmesh.admin.world import World
from hostmesh.cli.access_line import NoLogLine, parse_line
from hostmesh.cli.documents_world import from_documents
from hostmesh.cli.explain import render
from hostmesh.config.strict_yaml import Document, InvalidYaml, load_documents, parse, suggest
from hostmesh.model.identity import Identity, InvalidIdentity
from hostmesh.telemetry.reasons import Reason

Seen = dict[tuple[str, str], dict[str, set[int]]]
"""By namespace and service account of the destination: principals with the ports they used."""


def _known_reason(name: str) -> str:
    if name not in Reason.__members__:
        raise ValueError(f"no such reason; {suggest(name, Reason.__members__)}")
    return name


def _host_and_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("must be HOST:PORT, such as web.prod.svc:80")
    return text


class _Case(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = ""
    source: str = Field(alias="from", min_length=1)
    to: Annotated[str, AfterValidator(_host_and_port)]
    expect: Literal["allow", "deny"]
    reason: Annotated[str, AfterValidator(_known_reason)] | None = None


class _Cases(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    documents: list[str] = Field(min_length=1)
    cases: list[_Case] = Field(min_length=1)


@click.group()
def policy() -> None:
    """Test policies before they are live, and suggest them from what was seen."""


@policy.command("test")
@click.option("-f", "--filename", "names", required=True, multiple=True, metavar="FILE", help="Cases; may be repeated.")
@click.option("-v", "--verbose", is_flag=True, help="Explain every case, not only those that fail.")
def test_command(names: tuple[str, ...], verbose: bool) -> None:
    """Judge cases by the mesh's documents; needs no mesh.

    \b
    documents: [documents/]        # beside this file
    cases:
    - {from: prod/sleep, to: "web.prod.svc.cluster.local:80", expect: allow}
    - {name: strangers, from: 192.0.2.9, to: "prod/web:8080", expect: deny, reason: PLAINTEXT_REFUSED}

    Exit status 1 if a case is not as it says.
    """  # noqa: D301 - what click takes for "as written"
    failed = count = 0
    for name in names:
        document, cases = _read(Path(name))
        world = from_documents(str(Path(name).parent / one) for one in cases.documents)
        for number, case in enumerate(cases.cases):
            count += 1
            where = f"{name}:{document.line(('cases', number))}"
            failed += not _judge(world, case, where, verbose=verbose)
    click.echo(f"{count - failed} of {count} cases are as they should be")
    if failed:
        raise SystemExit(1)


def _read(path: Path) -> tuple[Document, _Cases]:
    try:
        documents = load_documents(path.read_text(encoding="utf-8"), str(path))
        if len(documents) != 1:
            raise click.ClickException(f"{path}: must be one document with `documents` and `cases`")
        cases = parse(documents[0], _Cases)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    except InvalidYaml as invalid:
        raise click.ClickException(str(invalid)) from invalid
    return documents[0], cases


def _judge(world: World, case: _Case, where: str, *, verbose: bool) -> bool:
    host, _, port = case.to.rpartition(":")
    label = case.name or f"{case.source} -> {case.to}"
    try:
        found = explain(world, case.source, host, int(port), time.time())
    except NotUnderstood as error:
        click.echo(f"FAIL  {where}: {label}: {error}")
        return False
    right = found.allowed == (case.expect == "allow") and case.reason in (None, found.reason.name)
    word = "ok  " if right else "FAIL"
    click.echo(f"{word}  {where}: {label}: {'allow' if found.allowed else 'deny'} ({found.reason.name})")
    if verbose or not right:
        click.echo("".join(f"        {line}\n" for line in render(found).splitlines()), nl=False)
    return right


@policy.command("suggest")
@click.argument("logs", nargs=-1, type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option(
    "-f",
    "--filename",
    "more",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="The same as LOGS.",
)
def suggest_command(logs: tuple[Path, ...], more: tuple[Path, ...]) -> None:
    """Suggest policies that allow what access logs show, and no more.

    LOGS are files or - for standard input. What failed, and what had no identity, is left out. Look through the result,
    apply it with the annotation istio.io/dry-run first, and take the annotation away when nothing is refused any more.

    \b
    journalctl -u hostmesh-agent -o cat --since -7d | hostmesh policy suggest -
    """  # noqa: D301 - what click takes for "as written"
    seen: Seen = {}
    unreadable = 0
    for path in (*logs, *more) or (Path("-"),):
        try:
            with click.open_file(str(path), encoding="utf-8", errors="replace") as lines:
                unreadable += _collect(lines, seen)
        except OSError as error:
            raise click.ClickException(f"{path}: {error.strerror}") from error
    if seen:
        click.echo(
            "# Logs do not have labels: see that the label app of these workloads is their service account's name."
        )
    click.echo(yaml.safe_dump_all(_policies(seen), sort_keys=False), nl=False)
    if not seen:
        click.echo("no connection with an identity in these logs: see that they are those of receiving hosts", err=True)
        raise SystemExit(1)


def _collect(lines: Iterable[str], seen: Seen) -> int:
    unreadable = 0
    for line in lines:
        try:
            fields = parse_line(line)
        except NoLogLine:
            unreadable += 1
            continue
        if fields.get("direction") != "inbound" or fields.get("error"):
            continue
        try:
            source, target = Identity.parse(fields["src.identity"]), Identity.parse(fields["dst.identity"])
            port = int(fields.get("dst.hbone_addr", fields["dst.addr"]).rpartition(":")[2])
        except (KeyError, ValueError, InvalidIdentity):
            continue
        account = seen.setdefault((target.namespace, target.service_account), {})
        account.setdefault(source.principal, set()).add(port)
    return unreadable


def _policies(seen: Seen) -> list[dict[str, Any]]:
    """One policy for each destination account; sources that use the same ports share a rule."""
    found = []
    for (namespace, account), callers in sorted(seen.items()):
        by_ports: dict[tuple[int, ...], list[str]] = {}
        for principal, ports in sorted(callers.items()):
            by_ports.setdefault(tuple(sorted(ports)), []).append(principal)
        rules = [
            {
                "from": [{"source": {"principals": principals}}],
                "to": [{"operation": {"ports": [str(port) for port in ports]}}],
            }
            for ports, principals in sorted(by_ports.items())
        ]
        found.append(
            {
                "apiVersion": "security.istio.io/v1",
                "kind": "AuthorizationPolicy",
                "metadata": {
                    "name": f"{account}-observed",
                    "namespace": namespace,
                    "annotations": {"istio.io/dry-run": "true"},
                },
                "spec": {"selector": {"matchLabels": {"app": account}}, "action": "ALLOW", "rules": rules},
            }
        )
    return found
