"""`hostmesh status`: what the agent of this host is doing, in one screen."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from typing import Any, TextIO

import click

from hostmesh.cli.output import output_option, structured

INTERVAL = 2.0
"""Seconds between two looks of --watch."""


class AgentUnreachable(click.ClickException):
    """Nobody answers on the admin port."""


def fetch(port: int, path: str) -> dict[str, Any]:
    """GET one JSON document from the agent on this host.

    Raises:
        AgentUnreachable: with the next step.
    """
    url = f"http://127.0.0.1:{port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            document: dict[str, Any] = json.load(response)
            return document
    except (urllib.error.URLError, OSError) as error:
        raise AgentUnreachable(
            f"the agent does not answer on {url}: {why(error)}; see `systemctl status hostmesh-agent`"
        ) from error


def why(error: OSError) -> object:
    """What the system says, without its number."""
    reason = getattr(error, "reason", error)
    return getattr(reason, "strerror", None) or reason


@click.command()
@output_option
@click.option(
    "-f",
    "--file",
    type=click.File(encoding="utf-8"),
    help="What an earlier call printed with -o json (a bug report has it); - for stdin.",
)
@click.option("-w", "--watch", is_flag=True, help=f"Look again every {INTERVAL:.0f} seconds.")
@click.option("--port", "--proxy-admin-port", default=15000, show_default=True, help="The agent's admin port.")
def status(output: str, file: TextIO | None, watch: bool, port: int) -> None:
    """Show this host's agent: control plane, workers, captured workloads and their certificates.

    Exit status 1 if the agent is not ready.
    """
    if watch and (file is not None or output != "table"):
        raise click.UsageError("--watch looks at the agent again and again, for people: without --file and -o")
    while True:
        facts = fetch(port, "/status") if file is None else _saved(file)
        if watch and sys.stdout.isatty():
            click.clear()
        if not structured(output, facts):
            click.echo(render(facts, time.time()))
        if not watch:
            break
        time.sleep(INTERVAL)
        click.echo()
    if not facts["ready"]:
        raise SystemExit(1)


def _saved(file: TextIO) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.load(file)
        render(facts, 0)
    except (ValueError, KeyError, TypeError) as error:
        lacking = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise click.ClickException(
            f"{file.name}: not what `hostmesh status -o json` prints: {lacking}; "
            "a config dump is shown by `hostmesh all --file`"
        ) from error
    return facts


def render(facts: dict[str, Any], now: float) -> str:
    """The status as a person reads it; `now` is seconds since the epoch."""
    ready = "ready" if facts["ready"] else f"NOT READY, pending: {', '.join(facts['pending'])}"
    mesh = facts["mesh"]
    lines = [
        f"node            {facts['node']} (hostmesh {facts['version']}): {ready}",
        *_membership(facts, now),
        f"mesh            {mesh['workloads']} workloads, {mesh['services']} services, {mesh['policies']} policies",
        *_names(facts["dns"]),
        *_policies(facts["networkPolicy"]),
        f"proxy workers   {_workers(facts['workers'])}; TLS engine {facts['tlsEngine']}",
        "",
    ]
    rows: list[tuple[str, ...]] = [("WORKLOAD", "UNIT", "CAPTURE", "IDENTITY", "CERTIFICATE")]
    rows += [
        (
            f"{w['namespace']}/{w['name']}",
            w["unit"],
            w["capture"],
            w["identity"],
            _certificate(w["certificate"], now),
        )
        for w in facts["workloads"]
    ]
    return "\n".join(lines + table(rows) + _troubles(facts))


def _membership(facts: dict[str, Any], now: float) -> list[str]:
    if facts.get("meshFile"):
        return [f"mesh file       {facts['meshFile']}"]
    plane = facts["controlPlane"]
    connection = "connected" if plane["connected"] else f"NOT CONNECTED ({plane['error'] or 'no answer yet'})"
    return [
        f"control plane   {plane['address']}: {connection}",
        f"certificate     {_certificate(facts['nodeCertificate'], now)}",
    ]


def _names(dns: dict[str, Any]) -> list[str]:
    if not dns["enabled"]:
        return []
    said = f"names of {', '.join(dns['domains'])} at {', '.join(dns['addresses'])} port {dns['port']}"
    return [f"DNS             {'FAILED: ' + dns['problem'] if dns['problem'] else said}"]


def _policies(policies: dict[str, Any]) -> list[str]:
    if not policies["enforce"]:
        return []
    found = policies["isolated"]
    dropped = sum(one["dropped"] for one in found)
    said = f"{len({one['workload'] for one in found})} workloads isolated, {dropped} packets dropped"
    if not policies["known"]:
        said = "the control plane has not told them yet"
    lines = [f"NetworkPolicy   {'FAILED: ' + policies['error'] if policies['error'] else said}"]
    return lines + [f"                {gap}" for gap in policies.get("gaps", ())]


def _troubles(facts: dict[str, Any]) -> list[str]:
    """A line for what of workloads.d is not so, and for each identity whose last renewal failed."""
    certificates = [(f"node {facts['node']}", facts["nodeCertificate"])]
    certificates += [(f"{w['namespace']}/{w['name']}", w["certificate"]) for w in facts["workloads"]]
    lines = [f"WARNING  {problem}" for problem in facts.get("captureProblems", ())]
    lines += [f"WARNING  certificate of {whose}: {c['lastError']}" for whose, c in certificates if c["lastError"]]
    return ["", *lines] if lines else []


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell, three spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _workers(workers: list[dict[str, Any]]) -> str:
    return ", ".join(f"{w['pid']}{_phase(w)}" for w in workers) or "none"


def _phase(worker: dict[str, Any]) -> str:
    if worker.get("draining"):
        return " (finishing)"
    return "" if worker["ready"] else " (starting)"


def _certificate(certificate: dict[str, Any], now: float) -> str:
    expires = certificate["expires"]
    if expires is None:
        return str(certificate["state"])
    left = int(expires - now)
    lifetime = f"{left // 3600}h{left % 3600 // 60:02}m{left % 60:02}s left" if left >= 0 else "expired"
    return f"{certificate['state']}, {lifetime}"
