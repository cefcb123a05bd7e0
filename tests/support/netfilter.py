"""A netfilter without a kernel that understands the commands hostmesh gives to nft, and prints them in its own words.

It passes the same suite as the real one (tests/support/redirector_suite.py), which is what makes it worth something.
"""

from __future__ import annotations

import copy
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.netfilter import NetfilterError, NoSuchCgroup
from hostmesh.redirect.backend import Netfilter

_ELEMENT = re.compile(
    r'\{ (?P<key>"[^"]+"|\w+)(?: \. (?P<pair>0x[0-9a-f]+|(?P<port>\d+)))?(?: comment "[^"]*")?'
    r"(?: : (?P<mark>0x[0-9a-f]+))? \}"
)


@dataclass
class _Table:
    sets: dict[str, str] = field(default_factory=dict)
    chains: dict[str, list[str]] = field(default_factory=dict)
    hooks: dict[str, str] = field(default_factory=dict)
    elements: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


class FakeNetfilter:
    """One table; every command of a transaction succeeds, or none is applied."""

    def __init__(self, cgroups: CgroupRoot) -> None:
        self._cgroups = cgroups
        self._table: _Table | None = None

    def run(self, transaction: str) -> None:
        before = copy.deepcopy(self._table)
        try:
            for line in transaction.splitlines():
                if line and not line.startswith("#"):
                    self._command(line)
        except NetfilterError:
            self._table = before
            raise

    def list_table(self) -> str | None:
        if self._table is None:
            return None
        lines = [f"\t{definition}" for definition in self._table.sets.values()]
        for name, rules in self._table.chains.items():
            lines += [f"\tchain {name} {{", f"\t\t{self._table.hooks[name]}", *(f"\t\t{rule}" for rule in rules), "\t}"]
        return "\n".join(["table inet hostmesh {", *lines, "}", ""]).replace("0x", "0x0000")

    def elements(self, names: Sequence[str]) -> dict[str, dict[bytes, bytes]]:
        held = self._table.elements if self._table else {}
        return {name: dict(held.get(name, {})) for name in names}

    def delete_elements(self, keys: Mapping[str, Iterable[bytes]]) -> None:
        table = copy.deepcopy(self._existing())
        for name, several in keys.items():
            for key in several:
                if table.elements.get(name, {}).pop(key, None) is None:
                    raise NetfilterError("No such file or directory")
        self._table = table

    def counters(self) -> dict[str, int]:
        return dict(self._table.counters) if self._table else {}

    def _existing(self) -> _Table:
        if self._table is None:
            raise NetfilterError("No such file or directory")
        return self._table

    def _command(self, line: str) -> None:
        verb, kind, family, table, *rest = line.split(" ", 5)
        assert (family, table) == ("inet", "hostmesh"), line
        if kind == "table":
            self._table = None if verb == "delete" else self._table or _Table()
            return
        name, text = rest[0], rest[1] if len(rest) > 1 else ""
        match verb, kind:
            case "add", "counter":
                self._existing().counters.setdefault(name, 0)
            case "add" | "delete", "map" | "set":
                self._set(verb, kind, name, text)
            case "add" | "delete" | "flush", "chain":
                self._chain(verb, name, text)
            case "add", "rule":
                self._rules(name).append(text)
            case "add" | "delete", "element":
                self._element(verb, name, text)
            case _:
                raise NetfilterError(f"syntax error: {line}")

    def _set(self, verb: str, kind: str, name: str, text: str) -> None:
        table = self._existing()
        if verb == "add":
            table.sets.setdefault(name, f"{kind} {name} {{ {text} }}")
            table.elements.setdefault(name, {})
        elif any(f"@{name} " in f"{rule} " for rules in table.chains.values() for rule in rules):
            raise NetfilterError("Device or resource busy")
        else:
            del table.sets[name], table.elements[name]

    def _chain(self, verb: str, name: str, text: str) -> None:
        if verb == "add":
            self._existing().chains.setdefault(name, [])
            self._existing().hooks[name] = text
        elif verb == "flush":
            self._rules(name).clear()
        else:
            del self._existing().chains[name]

    def _rules(self, chain: str) -> list[str]:
        if chain not in self._existing().chains:
            raise NetfilterError("No such file or directory")
        return self._existing().chains[chain]

    def _element(self, verb: str, name: str, text: str) -> None:
        match = _ELEMENT.fullmatch(text)
        if match is None:
            raise NetfilterError(f"syntax error: {text}")
        held = self._existing().elements.get(name)
        if held is None:
            raise NetfilterError("No such file or directory")
        key = self._key(self._existing().sets[name], match["key"].strip('"'))
        if match["port"]:
            key += struct.pack("!H2x", int(match["port"]))
        elif match["pair"]:
            key += struct.pack("=I", int(match["pair"], 16))
        data = struct.pack("=I", int(match["mark"], 16)) if match["mark"] else b""
        if verb == "delete":
            if held.pop(key, None) is None:
                raise NetfilterError("No such file or directory")
        elif held.setdefault(key, data) != data:
            raise NetfilterError("File exists")

    def _key(self, declaration: str, written: str) -> bytes:
        """The key, or the first part of a pair, as the kernel holds it."""
        match declaration.split(" type ")[1].split(" ")[0].rstrip(";"):
            case "cgroupsv2":
                cgroup_id = self._cgroups.id(written)
                if cgroup_id is None:
                    raise NoSuchCgroup("cgroupv2 path fails: No such file or directory")
                return struct.pack("=Q", cgroup_id)
            case "inet_service":
                return struct.pack("!H2x" if " . " in declaration else "!H", int(written))
            case _:
                return struct.pack("=I", int(written, 0))


class Observed:
    """Passes everything on to a netfilter, counts changes, and lets a test act just before a transaction."""

    def __init__(self, inner: Netfilter) -> None:
        self.inner = inner
        self.transactions = 0
        self.deletions = 0
        self.before_run: list[Callable[[], None]] = []

    def run(self, transaction: str) -> None:
        self.transactions += 1
        if self.before_run:
            self.before_run.pop(0)()
        self.inner.run(transaction)

    def list_table(self) -> str | None:
        return self.inner.list_table()

    def elements(self, names: Sequence[str]) -> dict[str, dict[bytes, bytes]]:
        return self.inner.elements(names)

    def delete_elements(self, keys: Mapping[str, Iterable[bytes]]) -> None:
        self.deletions += 1
        self.inner.delete_elements(keys)
