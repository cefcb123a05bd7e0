"""The hostmesh command: one module per command group, imported only when its command runs."""

from __future__ import annotations

import difflib
import importlib

import click

_COMMANDS = {
    "agent": ("hostmesh.cli.agent:agent", "Run the agent of this host."),
    "all": ("hostmesh.cli.inspect:everything", "Show everything that this host's agent knows."),
    "apply": ("hostmesh.cli.apply:apply", "Create or change objects from files."),
    "bug-report": ("hostmesh.cli.bug_report:bug_report", "Collect what somebody needs to help, without secrets."),
    "ca": ("hostmesh.cli.ca:ca", "Manage the certificate authority."),
    "certificates": ("hostmesh.cli.inspect:certificates", "Show certificates of this host's workloads."),
    "completion": ("hostmesh.cli.completion:completion", "Print a shell's completion script."),
    "config": ("hostmesh.cli.config:config", "Show this host's settings and where they come from."),
    "connections": ("hostmesh.cli.inspect:connections", "Show open connections of this host's workloads."),
    "control-plane": ("hostmesh.cli.control_plane:control_plane", "Run the control plane."),
    "delete": ("hostmesh.cli.apply:delete", "Delete an object."),
    "diff": ("hostmesh.cli.apply:diff", "Show what apply would change."),
    "dns": ("hostmesh.cli.dns:dns", "Let the resolver of this host find names of the mesh."),
    "explain": ("hostmesh.cli.explain:explain_command", "Explain what becomes of a connection, and why."),
    "get": ("hostmesh.cli.get:get", "Show objects."),
    "log": ("hostmesh.cli.log:log", "Show or change the agent's log levels."),
    "manual": ("hostmesh.cli.manual:manual", "Write the man pages."),
    "netpol": ("hostmesh.cli.netpol:netpol", "Adapt, check and explain NetworkPolicies."),
    "node": ("hostmesh.cli.node:node", "Register hosts by their SSH host keys."),
    "policies": ("hostmesh.cli.inspect:policies", "Show policies that this host's agent holds."),
    "policy": ("hostmesh.cli.policy:policy", "Test policies, and suggest them."),
    "probe": ("hostmesh.cli.probe:probe", "Try what this host's services reach through the mesh."),
    "proxy-status": ("hostmesh.cli.proxy_status:proxy_status", "Show who is connected to the control plane."),
    "services": ("hostmesh.cli.inspect:services", "Show services that this host's agent knows."),
    "rules": ("hostmesh.cli.rules:rules", "Plan, compare, apply and remove this host's rules."),
    "status": ("hostmesh.cli.status:status", "Show this host's agent."),
    "token": ("hostmesh.cli.token:token", "Manage join tokens."),
    "validate": ("hostmesh.cli.validate:validate", "Check files without a control plane."),
    "version": ("hostmesh.cli.version:version", "Print versions."),
    "waypoint": ("hostmesh.cli.waypoint:waypoint", "Run a waypoint, and look at it."),
    "workloads": ("hostmesh.cli.inspect:workloads", "Show workloads that this host's agent knows."),
}
"""Command: where it is, and its line in the help. The help is said here so that `--help` imports nothing."""


_ALIASES = {
    "cert": "certificates",
    "certificate": "certificates",
    "certs": "certificates",
    "cons": "connections",
    "pol": "policies",
    "ps": "proxy-status",
    "service": "services",
    "svc": "services",
    "workload": "workloads",
}
"""Further words for a command; istioctl has them too."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = _ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{cmd_name} is no command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], [*_COMMANDS, *_ALIASES], n=2)
            if not near:
                raise
            hint = f"did you mean {' or '.join(map(repr, near))}?"
            raise click.UsageError(f"{error.message.rstrip('.')}; {hint}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _COMMANDS[name][1]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The ambient mesh for bare metal and VMs."""
