"""`hostmesh policy`: unit tests of policies for a user's CI, and policies suggested from what was seen."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hostmesh.admin.explain import Explanation, explain
from hostmesh.admin.parties import NotUnderstood
from hostmesh.admin.world import World
from hostmesh.cli.access_line import NoLogLine, parse_line
from hostmesh.cli.documents_world import from_documents
from hostmesh.cli.explain import as_json, render
from hostmesh.cli.output import output_option, structured
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
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
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


@dataclass(frozen=True, slots=True)
class _Judged:
    """A case, where it is written, and what would happen; None if nobody can tell, and `error` says why."""

    case: _Case
    where: str
    found: Explanation | None
    error: str = ""

    @property
    def right(self) -> bool:
        """Whether it is as the case says."""
        found, case = self.found, self.case
        if found is None:
            return False
        return found.allowed == (case.expect == "allow") and case.reason in (None, found.reason.name)


@click.group()
def policy() -> None:
    """Test policies before they are live, and suggest them from what was seen."""


@policy.command("test")
@click.option("-f", "--filename", "names", required=True, multiple=True, metavar="FILE", help="Cases; may be repeated.")
@click.option("-v", "--verbose", is_flag=True, help="Explain every case, not only those that fail.")
@output_option
def test_command(names: tuple[str, ...], verbose: bool, output: str) -> None:
    """Judge cases by the mesh's documents; needs no mesh.

    \b
    documents: [documents/]        # beside this file
    cases:
    - {from: prod/sleep, to: "web.prod.svc.cluster.local:80", expect: allow}
    - {name: strangers, from: 192.0.2.9, to: "prod/web:8080", expect: deny, reason: PLAINTEXT_REFUSED}

    Exit status 1 if a case is not as it says.
    """  # noqa: D301 - what click takes for "as written"
    judged: list[_Judged] = []
    for name in names:
        document, cases = _read(Path(name))
        world = from_documents(str(Path(name).parent / one) for one in cases.documents)
        for number, case in enumerate(cases.cases):
            judged.append(_judge(world, case, f"{name}:{document.line(('cases', number))}"))
    right = sum(one.right for one in judged)
    if not structured(output, {"right": right, "cases": [_json(one) for one in judged]}):
        for one in judged:
            click.echo(_text(one, verbose=verbose), nl=False)
        click.echo(f"{right} of {len(judged)} cases are as they should be")
    if right < len(judged):
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


def _judge(world: World, case: _Case, where: str) -> _Judged:
    host, _, port = case.to.rpartition(":")
    try:
        found = explain(world, case.source, host, int(port), time.time())
    except NotUnderstood as error:
        return _Judged(case, where, None, str(error))
    return _Judged(case, where, found)


def _text(one: _Judged, *, verbose: bool) -> str:
    found = one.found
    label = one.case.name or f"{one.case.source} -> {one.case.to}"
    if found is None:
        return f"FAIL  {one.where}: {label}: {one.error}\n"
    word, decision = "ok  " if one.right else "FAIL", "allow" if found.allowed else "deny"
    lines = [f"{word}  {one.where}: {label}: {decision} ({found.reason.name})"]
    if verbose or not one.right:
        lines += [f"        {line}" for line in render(found).splitlines()]
    return "".join(f"{line}\n" for line in lines)


def _json(one: _Judged) -> dict[str, Any]:
    said = {"where": one.where, **one.case.model_dump(by_alias=True, exclude_none=True), "right": one.right}
    return {**said, "found": as_json(one.found) if one.found is not None else {"error": one.error}}


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
