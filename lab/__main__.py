"""`python3 -m lab`: start, enter and remove labs of systemd hosts."""

from __future__ import annotations

import argparse
import fcntl
import ipaddress
import os
import shutil
import sys
from collections.abc import Sequence

from lab import network, rootfs
from lab.console import LabError, say, step
from lab.distributions import DEBIAN_12, DISTRIBUTIONS, distribution
from lab.hosts import CLEAN_ENVIRONMENT, Host, make_key
from lab.instance import CACHE, STATE, Address, Lab, labs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, or 1 with a message on stderr."""
    options = _parser().parse_args(arguments)
    try:
        rootfs.require_tools()
        return int(options.run(options))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start hosts that are not running yet")
    up.add_argument("lab")
    up.add_argument("hosts", nargs="+", metavar="NAME=ADDRESS/PREFIX[@DISTRIBUTION]")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="remove a lab without a trace (or the named hosts of it)")
    down.add_argument("lab")
    down.add_argument("hosts", nargs="*")
    down.set_defaults(run=_down)
    execute = commands.add_parser("exec", help="run a command in a host, or open a shell")
    execute.add_argument("lab")
    execute.add_argument("host")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    execute.set_defaults(run=_exec)
    bridge = commands.add_parser("bridge", help="run a command in the lab's own network, beside the bridge")
    bridge.add_argument("lab")
    bridge.add_argument("command", nargs=argparse.REMAINDER)
    bridge.set_defaults(run=_bridge)
    commands.add_parser("list", help="show the labs of this machine").set_defaults(run=_list)
    filesystem = commands.add_parser("rootfs", help="build the root filesystem if it is missing, print its path")
    filesystem.add_argument("distribution", nargs="?", default=DEBIAN_12.name, choices=DISTRIBUTIONS)
    filesystem.set_defaults(run=_rootfs)
    commands.add_parser("clean", help="remove all labs and the cached root filesystem").set_defaults(run=_clean)
    return parser


def _up(options: argparse.Namespace) -> int:
    lab, everyone = Lab(options.lab), [Address.parse(text) for text in options.hosts]
    gateway = _gateway(everyone)
    filesystems = {address.host: rootfs.ensure(release=address.release) for address in everyone}
    lab.hosts_directory.mkdir(parents=True, exist_ok=True)
    with (lab.directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [address for address in everyone if Host(lab, address.host).leader() is None]
        if not lab.key.exists():
            make_key(lab.key, f"lab {lab.name}")
        network.up(lab, gateway)
        if missing:
            with step(f"booting {', '.join(address.host for address in missing)}"):
                waiting = []
                for address in missing:
                    host = Host(lab, address.host)
                    host.stop()
                    host.prepare(address, everyone, gateway)
                    waiting.append((host, host.start(filesystems[host.name])))
                for host, notify in waiting:
                    host.wait_booted(notify)
        _write_ssh(lab, everyone)
    say(f"{lab.name} is up: ssh -F {lab.ssh_config} {everyone[0].host}")
    return 0


def _gateway(everyone: Sequence[Address]) -> ipaddress.IPv4Interface:
    """The bridge's own address: the first one of the hosts' network.

    Raises:
        LabError: hosts do not share a network, or have an address that is taken.
    """
    networks = {address.interface.network for address in everyone}
    if len(networks) != 1:
        raise LabError(f"hosts of one lab share one network, these do not: {', '.join(map(str, networks))}")
    (shared,) = networks
    if shared.prefixlen > 30:
        raise LabError(f"{shared} has no room for hosts beside the bridge; take a larger network, a /24 say")
    taken = [address.interface.ip for address in everyone]
    if len(set(taken)) < len(taken):
        raise LabError(f"hosts have the same address: {', '.join(map(str, taken))}")
    if shared[1] in taken:
        raise LabError(f"{shared[1]} is the bridge's own address; give the host another of {shared}")
    return ipaddress.IPv4Interface(f"{shared[1]}/{shared.prefixlen}")


def _write_ssh(lab: Lab, everyone: Sequence[Address]) -> None:
    """Write the ssh_config and the known hosts of a lab."""
    known, config = [], []
    for address in everyone:
        known.append(f"{address.host},{address.interface.ip} {Host(lab, address.host).public_key()}")
        config += [f"Host {address.host} {address.interface.ip}", f"  HostName {address.interface.ip}"]
    config += [
        "Host *",
        "  User root",
        f"  IdentityFile {lab.key}",
        "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {lab.known_hosts}",
        "  StrictHostKeyChecking yes",
        "  LogLevel ERROR",
        # A host that reboots does not close its connections.
        "  ServerAliveInterval 2",
        "  ServerAliveCountMax 3",
        f"  ProxyCommand nsenter --net={lab.namespace_path} nc %h %p",
    ]
    lab.known_hosts.write_text("\n".join(known) + "\n", encoding="utf-8")
    lab.ssh_config.write_text("\n".join(config) + "\n", encoding="utf-8")


def _down(options: argparse.Namespace) -> int:
    lab = Lab(options.lab)
    strangers = [name for name in options.hosts if name not in lab.hosts()]
    if strangers:
        raise LabError(f"{lab.name} has no host {strangers[0]!r}; it has {', '.join(lab.hosts()) or 'none'}")
    if options.hosts:
        for name in options.hosts:
            Host(lab, name).stop()
        return 0
    _remove(lab)
    say(f"{lab.name} is gone")
    return 0


def _remove(lab: Lab) -> None:
    for name in lab.hosts():
        Host(lab, name).stop()
    network.down(lab)
    if lab.directory.exists():
        shutil.rmtree(lab.directory)
    if STATE.is_dir() and not any(STATE.iterdir()):
        STATE.rmdir()


def _exec(options: argparse.Namespace) -> int:
    host = Host(Lab(options.lab), options.host)
    command = host.enter_command(options.command or ["/bin/bash", "--login"])
    environment = {**CLEAN_ENVIRONMENT, "HOME": "/root", "TERM": os.environ.get("TERM", "dumb")}
    os.execvpe(command[0], command, environment)  # noqa: S606 - the command takes this process's place


def _bridge(options: argparse.Namespace) -> int:
    lab = Lab(options.lab)
    if not lab.namespace_path.exists():
        raise LabError(f"lab {lab.name} is not up")
    command = ["nsenter", f"--net={lab.namespace_path}", *(options.command or ["/bin/bash"])]
    os.execvpe(command[0], command, dict(os.environ))  # noqa: S606 - as above


def _list(_: argparse.Namespace) -> int:
    for lab in labs():
        hosts = (f"{name}({Host(lab, name).leader() or 'down'})" for name in lab.hosts())
        print(lab.name, " ".join(hosts))
    return 0


def _rootfs(options: argparse.Namespace) -> int:
    print(rootfs.ensure(release=distribution(options.distribution)))
    return 0


def _clean(_: argparse.Namespace) -> int:
    for lab in labs():
        _remove(lab)
    if CACHE.exists():
        shutil.rmtree(CACHE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
