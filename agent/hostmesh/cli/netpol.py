"""`hostmesh netpol`: Kubernetes NetworkPolicies in the mesh, adapted, checked and explained."""

from __future__ import annotations

import difflib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from hostmesh.cli.files import files_option, read_files
from hostmesh.cli.objects import read_objects
from hostmesh.cli.output import output_option, structured
from hostmesh.cli.status import fetch
from hostmesh.config.strict_yaml import InvalidYaml, Problem, suggest
from hostmesh.control.documents.adapt import PROBE4, PROBE6, adapt, lacks
from hostmesh.control.explain import Unknown, explain
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate
from hostmesh.kernel.files import write_atomically
from hostmesh.xds.compiled_policies import dump_policies


@click.group()
def netpol() -> None:
    """NetworkPolicies in the mesh: adapt, check, explain."""


_ipv6 = click.option("--ipv6", is_flag=True, help=f"Health probes come over IPv6 too, from {PROBE6}.")


@netpol.command("adapt")
@files_option
@_ipv6
@click.option("--in-place", "-i", is_flag=True, help="Write the files instead of printing them.")
@click.option("--diff", is_flag=True, help="Print only what changes.")
def adapt_command(names: tuple[str, ...], ipv6: bool, in_place: bool, diff: bool) -> None:
    """Add to NetworkPolicies what ambient traffic needs.

    TCP port 15008 wherever a rule admits TCP, and the address of health probes. Comments and order stay.
    """
    found = [(file["source"], file["text"]) for file in read_files(names)]
    try:
        adapted = [(source, text, adapt(text, source, _probes(ipv6=ipv6))) for source, text in found]
    except InvalidYaml as invalid:
        raise click.ClickException(str(invalid)) from invalid
    for source, before, after in adapted:
        if in_place and source != "<stdin>" and before != after:
            Path(source).write_text(after, encoding="utf-8", newline="")
        if diff:
            lines = difflib.unified_diff(before.splitlines(), after.splitlines(), source, source, lineterm="")
            click.echo("".join(f"{line}\n" for line in lines), nl=False)
        elif not in_place or source == "<stdin>":
            sys.stdout.write(after)


@netpol.command("check")
@files_option
@_ipv6
@output_option
def check_command(names: tuple[str, ...], ipv6: bool, output: str) -> None:
    """Say what NetworkPolicies would cut in the mesh.

    Exit status 1 if anything.
    """
    missing: list[Problem] = []
    broken: list[Problem] = []
    for file in read_files(names):
        try:
            missing += [lack.problem for lack in lacks(file["text"], file["source"], _probes(ipv6=ipv6))]
        except InvalidYaml as invalid:
            broken += invalid.problems
    found = {"problems": [asdict(one) for one in broken], "missing": [asdict(one) for one in missing]}
    if not structured(output, found):
        for problem in broken + missing:
            click.echo(str(problem), err=True)
        if missing:
            click.echo("`hostmesh netpol adapt` adds what is missing", err=True)
        if not broken and not missing:
            click.echo("nothing of the mesh is cut")
    if broken or missing:
        raise SystemExit(1)


@netpol.command("compile")
@files_option
@click.option("-o", "--output", "target", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option("--dry-run", is_flag=True, help="Only say whether the file would change.")
def compile_command(names: tuple[str, ...], target: Path, dry_run: bool) -> None:
    """Compile policies for an agent without a control plane.

    The files are NetworkPolicies, WorkloadEntries and Namespaces. What is wrong is named with file, line and field, and
    nothing is written. Says `changed` or `unchanged`.
    """
    translation = translate(read_objects(names), MeshConfig())
    for warning in translation.warnings:
        click.echo(f"WARNING  {warning}", err=True)
    text = dump_policies(translation.network_policies)
    changed = not target.exists() or target.read_text() != text
    if changed and not dry_run:
        write_atomically(target, text.encode(), 0o644)
    click.echo("changed" if changed else "unchanged")


@netpol.command("explain")
@click.argument("workload")
@click.option("-f", "--filename", "names", multiple=True, metavar="FILE", help="A YAML file, or a directory of them.")
@click.option("--port", default=15000, show_default=True, help="The agent's admin port.")
def explain_command(workload: str, names: tuple[str, ...], port: int) -> None:
    """Show what holds for WORKLOAD (namespace/name).

    Rules of its host, and the policy inside tunnels.

    Without files the agent of this host is asked what it enforces, and whether the kernel has it. With files (the
    mesh's documents: workloads, namespaces and policies; on the control plane's host -f /etc/hostmesh/documents) it is
    computed from them.
    """
    if not names:
        click.echo(enforced(fetch(port, "/network_policies"), workload), nl=False)
        return
    try:
        click.echo(explain(read_objects(names), workload, MeshConfig()), nl=False)
    except Unknown as unknown:
        raise click.ClickException(str(unknown)) from unknown


def enforced(facts: dict[str, Any], workload: str) -> str:
    """What the agent says about one of its workloads, as a person reads it.

    Raises:
        ClickException: it has no such workload.
    """
    if workload not in facts["inside"] and not any(one["workload"] == workload for one in facts["isolated"]):
        raise click.ClickException(f"no workload {workload!r} on this host; {suggest(workload, facts['inside'])}")
    lines = [f"WARNING  {facts['error']}"] if facts["error"] else []
    lines += [f"WARNING  the kernel is not as it should be: {line}" for line in facts["kernel"]]
    if not facts["enforce"]:
        lines.append("this host does not enforce NetworkPolicies (network_policy.enforce in agent.yaml)")
    for one in facts["isolated"]:
        if one["workload"] == workload:
            word = one["direction"].lower()
            lines.append(f"{workload}: {word} is isolated by {', '.join(one['policies'])}")
            lines.append(
                f"  in the kernel of this host, for new connections ({one['dropped']} packets dropped so far):"
            )
            lines += [f"    {line}" for line in one["rules"]]
    lines += facts["inside"].get(workload, [])
    return "".join(f"{line}\n" for line in lines or [f"{workload}: no NetworkPolicy holds, everything is allowed"])


def _probes(*, ipv6: bool) -> tuple[str, ...]:
    return (PROBE4, PROBE6) if ipv6 else (PROBE4,)
