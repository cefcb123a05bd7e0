"""The door: `python -m bench [compare|waypoint|profile|hot|scale|control]`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.generator import BenchFailed, build


def main() -> None:
    """Exit 1 with the reason and the next step when a measurement is not possible here."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    some, several = _at_least(1), _at_least(2)
    comparison = commands.add_parser("compare", help="direct, Envoy and hostmesh side by side")
    comparison.add_argument("--rounds", type=some, default=5)
    comparison.add_argument("--seconds", type=float, default=2.0, help="of one work (default 2)")
    profile = commands.add_parser("profile", help="kernel, OpenSSL and interpreter work by work; system calls")
    profile.add_argument("--seconds", type=float, default=3.0, help="of one work (default 3)")
    profile.add_argument("--top", type=int, default=0, metavar="N", help="also the N dearest functions of each work")
    commands.add_parser("hot", help="the functions that every message meets, beside those that are kept together")
    hop = commands.add_parser("waypoint", help="what one waypoint hop adds to a request at 1,000 a second")
    hop.add_argument("--rounds", type=some, default=5)
    hop.add_argument("--seconds", type=float, default=2.0, help="of one measurement (default 2)")
    scale = commands.add_parser("scale", help="a large mesh: memory, time to apply, look-ups, ping while applying")
    scale.add_argument("--workloads", type=some, default=100_000)
    scale.add_argument("--services", type=some, default=10_000)
    control = commands.add_parser("control", help="the control plane's discovery: many agents, cold syncs, changes")
    control.add_argument("--agents", type=several, default=1000)
    control.add_argument("--workloads", type=some, default=10_000)
    control.add_argument("--services", type=some, default=1000)
    control.add_argument("--changes", type=several, default=100)
    arguments = parser.parse_args()
    if os.geteuid() != 0 and arguments.command not in {"control", "hot"}:
        sys.exit("bench: network namespaces need root; next: sudo make bench")
    # What was made must be removed also when somebody stops the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: stopped"))
    try:
        _run(arguments)
    except BenchFailed as error:
        sys.exit(f"bench: {error}")


def _at_least(least: int) -> Callable[[str], int]:
    """Of less there is nothing to measure."""

    def number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} up")
        return int(text)

    return number


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "compare":
        from bench.compare import compare

        compare(arguments.rounds, arguments.seconds)
    elif arguments.command == "waypoint":
        from bench import waypoint

        with tempfile.TemporaryDirectory() as directory:
            print(waypoint.table(waypoint.hop(build(), Path(directory), arguments.rounds, arguments.seconds)))
    elif arguments.command == "profile":
        from bench.profile import profile

        profile(arguments.seconds, arguments.top)
    elif arguments.command == "hot":
        from bench.hot import hot

        with tempfile.TemporaryDirectory() as directory:
            hot(Path(directory))
    elif arguments.command == "control":
        from bench.control import Size, control

        control(Size(arguments.agents, arguments.workloads, arguments.services, arguments.changes))
    else:
        from bench.scale import scale

        scale(arguments.workloads, arguments.services)


if __name__ == "__main__":
    main()
