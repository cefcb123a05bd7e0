"""The process that speaks to the old kernel tables by python-iptables, for one family: the only user of that library.

It is a process because the library serves one family in each (its second one finds no targets, or ends the process), is
not safe for threads, and remembers the network namespace that it looked at last. Every change is an explicit commit
under the lock that the tools share, as its automatic commits lose errors and take no lock.

Requests and answers are lines of JSON: `{"save": table}` and `{"restore": text}`; `{"ok": text}` or `{"error": text}`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import iptc

from hostmesh.kernel.iptables_text import BadRules, Command, Rule, Verb, parse

LOCK = Path("/run/xtables.lock")
WAIT = 10.0
"""Seconds for the lock."""

_TRIES = 5
_SELECTORS = (("source", "src"), ("destination", "dst"), ("into", "in_interface"), ("out", "out_interface"))


class Tables:
    """The tables of one family in the network namespace of this process."""

    def __init__(self, *, ipv6: bool) -> None:
        self._ipv6 = ipv6
        self._table = iptc.Table6 if ipv6 else iptc.Table
        self._rule = iptc.Rule6 if ipv6 else iptc.Rule

    def save(self, name: str) -> str:
        """Chains and rules as iptables-save has them, with rules of others than us cut short.

        Only what leads to another chain is written as it writes that; the rest is the library's words.
        """
        table = self._fresh(name)
        lines = [f":{chain.name} - [0:0]" for chain in table.chains]
        lines += [f"-A {chain.name} {self._words(rule)}" for chain in table.chains for rule in chain.rules]
        return "\n".join([f"*{name}", *lines, "COMMIT", ""])

    def restore(self, text: str) -> str:
        """Apply the text, each table all or nothing."""
        for name, commands in parse(text).items():
            with _locked():
                self._change(name, commands)
        return ""

    def _change(self, name: str, commands: list[Command]) -> None:
        for attempt in range(1, _TRIES + 1):
            table = self._fresh(name)
            try:
                for command in commands:
                    self._do(table, command)
                table.commit()
            except iptc.IPTCError:
                # somebody without the lock was quicker; what we have prepared is thrown away
                self._fresh(name)
                if attempt == _TRIES:
                    raise
            else:
                self._fresh(name)  # or the next commit would be refused
                return

    def _fresh(self, name: str) -> Any:  # noqa: ANN401 -- the library has no types
        table = self._table(name)
        table.autocommit = False
        table.refresh()
        return table

    def _do(self, table: Any, command: Command) -> None:  # noqa: ANN401
        if command.verb is Verb.EMPTY:
            if table.is_chain(command.chain):
                table.flush_entries(command.chain)
            else:
                table.create_chain(command.chain)
            return
        if command.verb is Verb.DISCARD:
            table.delete_chain(command.chain)
            return
        chain = iptc.Chain(table, command.chain)
        rule = self._made(command.rule)
        if command.verb is Verb.APPEND:
            chain.append_rule(rule)
        elif command.verb is Verb.INSERT:
            chain.insert_rule(rule)
        else:
            chain.delete_rule(rule)

    def _made(self, rule: Rule) -> Any:  # noqa: ANN401
        made = self._rule()
        if rule.protocol:
            made.protocol = rule.protocol
        for ours, theirs in _SELECTORS:
            if value := getattr(rule, ours):
                setattr(made, theirs, value)
        if self._ipv6:
            _complete(made.get_ip(), rule)
        for match in rule.matches:
            extension = made.create_match(match.name)
            for option, values in match.options:
                extension.set_parameter(option, values[0] if len(values) == 1 else list(values))
        target = made.create_target(rule.target.name, goto=rule.goto)
        for option, values in rule.target.options:
            target.set_parameter(option, values[0] if len(values) == 1 else list(values))
        return made

    def _words(self, rule: Any) -> str:  # noqa: ANN401
        try:
            said = iptc.easy.decode_iptc_rule(rule, ipv6=self._ipv6)
        except Exception as error:  # noqa: BLE001 -- an extension that the library cannot read is somebody else's
            return f"({type(error).__name__})"
        said.pop("counters", None)
        if set(said) == {"target"} and isinstance(said["target"], str):
            return f"-j {said['target']}"
        return json.dumps(said, sort_keys=True)


def _complete(entry: Any, rule: Rule) -> None:  # noqa: ANN401
    """What the library leaves out of an IPv6 rule, though it lists well.

    Without the flag the kernel neither compares the protocol nor finds its header; of the names of interfaces the
    library has it compare one bit in eight, by which `lo` is many others.
    """
    if rule.protocol:
        entry.flags |= entry.IP6T_F_PROTO
    if rule.into:
        entry.iniface_mask = _mask(rule.into)
    if rule.out:
        entry.outiface_mask = _mask(rule.out)


def _mask(name: str) -> bytes:
    """All of a name and its end, or all before a `+`."""
    plain = name.removeprefix("!")
    return b"\xff" * (len(plain) - 1 if plain.endswith("+") else len(plain) + 1)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """As the tools do it, which wait for each other at the same file."""
    deadline = time.monotonic() + WAIT
    with LOCK.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{LOCK} is held by another tool for more than {WAIT:.0f} s") from None
                time.sleep(0.05)
        yield


def answer(tables: Tables, line: str) -> dict[str, str]:
    """What a request comes to."""
    verbs: dict[str, Callable[[str], str]] = {"save": tables.save, "restore": tables.restore}
    try:
        ((verb, argument),) = json.loads(line).items()
        return {"ok": verbs[verb](argument)}
    except (iptc.IPTCError, iptc.XTablesError, BadRules, OSError, ValueError) as error:
        return {"error": str(error) or type(error).__name__}


def main() -> None:
    """Serve until the other end closes."""
    tables = Tables(ipv6=sys.argv[1:] == ["ip6tables"])
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(tables, line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
