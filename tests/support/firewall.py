"""The kernel's part in firewall tests: reads the nft commands of a plan and judges packets by them.

It knows only the words that plans use and fails on any other; what they mean to a real kernel is proved in tests/netns.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from hostmesh.firewall.ruleset import Ruleset
from hostmesh.model.address import IPAddress

_NUMBERS = {"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "esp": 50, "ah": 51, "ipv6-icmp": 58, "sctp": 132}


@dataclass(frozen=True)
class Packet:
    """The first packet of a flow unless `established`; `cgroup` is that of the socket, `local` the routing's word."""

    saddr: IPAddress
    daddr: IPAddress
    protocol: str = "tcp"
    dport: int = 0
    device: str = "eth0"
    local: bool = True
    cgroup: str = ""
    mark: int = 0
    established: bool = False
    syn: bool = True

    def value(self, word: str) -> object:
        match word:
            case "ip saddr" | "ip6 saddr":
                return self.saddr
            case "ip daddr" | "ip6 daddr":
                return self.daddr
            case "meta l4proto":
                return _NUMBERS[self.protocol]
            case "th dport":
                return self.dport
        raise AssertionError(word)


@dataclass
class FirewallModel:
    """The table of a plan."""

    chains: dict[str, list[list[str]]] = field(default_factory=dict)
    elements: dict[str, list[str]] = field(default_factory=dict)
    units: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, ruleset: Ruleset) -> FirewallModel:
        """Everything declared before it is used, names at most 255 long, elements of all units in place."""
        model = cls()
        for line in ruleset.text.splitlines():
            model._command(line)
        for unit in ruleset.units:
            target = unit.verdict.removeprefix("goto ")
            assert target in model.chains or target == "accept"
            model.units.setdefault(unit.map_name, {})[unit.cgroup] = unit.verdict
        return model

    def passes(self, base: str, packet: Packet) -> bool:
        """Whether the base chain lets the packet pass."""
        return self._run(base, packet) != "drop"

    def _command(self, line: str) -> None:
        verb, kind, family, table, *rest = line.split(" ", 5)
        assert (family, table) == ("inet", "hostmesh_firewall"), line
        name, text = (rest[0] if rest else ""), (rest[1] if len(rest) > 1 else "")
        assert len(name) < 256
        match verb, kind:
            case "add", "table":
                pass
            case "add", "set" | "map":
                self.elements.setdefault(name, [])
            case "add", "counter":
                assert name in self.chains
            case "add", "chain":
                self.chains.setdefault(name, [])
            case "flush", "chain":
                self.chains[name].clear()
            case "flush", "set" | "map":
                self.elements[name].clear()
            case "add", "element":
                self.elements[name] += [e.strip() for e in text.strip("{} ").split(",")]
            case "add", "rule":
                tokens = shlex.split(text.replace("{", " { ").replace("}", " } "))
                assert tokens[-2] == "comment"
                assert len(tokens[-1]) < 128
                self.chains[name].append(tokens[:-2])
            case _:
                raise AssertionError(line)

    def _run(self, chain: str, packet: Packet) -> str:
        for rule in self.chains[chain]:
            verdict = self._rule(list(rule), packet)
            if verdict.startswith("goto "):
                return self._run(verdict[5:], packet)
            if verdict.startswith("jump "):
                verdict = self._run(verdict[5:], packet)
                if verdict == "return":
                    continue
            if verdict:
                return verdict
        return "return"

    def _rule(self, tokens: list[str], packet: Packet) -> str:
        """The verdict, empty when something does not match."""
        while tokens:
            if tokens[0] in ("accept", "drop", "return"):
                return tokens.pop(0)
            if tokens[0] in ("goto", "jump"):
                return f"{tokens.pop(0)} {tokens.pop(0)}"
            found = self._match(tokens, packet)
            if isinstance(found, str):
                return found
            if not found:
                return ""
        return ""

    def _match(self, tokens: list[str], packet: Packet) -> bool | str:
        match tokens:
            case ["iifname" | "oifname", "!=", name, *_]:
                del tokens[:3]
                return packet.device != name
            case ["iifname" | "oifname", name, *_]:
                del tokens[:2]
                return packet.device == name
            case ["counter", "name", name, *_]:
                assert name in self.chains
                del tokens[:3]
                return True
            case ["ct", "state", "established,related", *_]:
                del tokens[:3]
                return packet.established
            case ["tcp", "flags", *_]:
                assert tokens[2:11] == ["&", "(fin", "|", "syn", "|", "rst", "|", "ack)", "!="]
                del tokens[:12]
                return packet.protocol == "tcp" and not packet.syn
            case ["fib", "daddr", "type", "!=", "local", *_]:
                del tokens[:5]
                return not packet.local
            case ["meta", "mark", "&", "0xfff", "==", *_]:
                del tokens[:5]
                return packet.mark & 0xFFF in {int(text, 16) for text in _braces(tokens)}
            case ["meta", "l4proto", *_] if tokens[2] != "@":
                del tokens[:2]
                wanted = _braces(tokens)
                return packet.value("meta l4proto") in {_NUMBERS.get(text) or int(text) for text in wanted}
            case ["tcp" | "udp" | "sctp" as protocol, "dport", *_]:
                del tokens[:2]
                ports = [_span(text) for text in _braces(tokens)]
                return packet.protocol == protocol and any(a <= packet.dport <= b for a, b in ports)
            case ["socket", "cgroupv2", "level", level, "vmap", name, *_]:
                del tokens[:6]
                path = "/".join(packet.cgroup.split("/")[: int(level)])
                deep = packet.cgroup.count("/") + 1 >= int(level)
                return self.units.get(name[1:], {}).get(path, True) if packet.cgroup and deep else False
            case ["ip" | "ip6", "saddr" | "daddr", *_]:
                return self._address(tokens, packet)
        raise AssertionError(tokens)

    def _address(self, tokens: list[str], packet: Packet) -> bool | str:
        version = 4 if tokens[0] == "ip" else 6
        words = [f"{tokens.pop(0)} {tokens.pop(0)}"]
        while tokens[0] == ".":
            words.append(f"{tokens[1]} {tokens[2]}")
            del tokens[:3]
        vmap = tokens[0] == "vmap"
        if vmap:
            tokens.pop(0)
        right = self.elements[tokens.pop(0)[1:]] if tokens[0].startswith("@") else _braces(tokens)
        if packet.saddr.version != version:
            return False
        values = [packet.value(word) for word in words]
        if vmap:
            verdicts: Mapping[str, str] = dict(element.split(" : ") for element in right)
            return verdicts.get(str(values[0]), False)
        return any(_is_in(values, element) for element in right)


def _braces(tokens: list[str]) -> list[str]:
    """Takes `{ a, b }` or one word."""
    if tokens[0] != "{":
        return [tokens.pop(0)]
    end = tokens.index("}")
    inner = " ".join(tokens[1:end])
    del tokens[: end + 1]
    return re.split(r",\s*", inner)


def _is_in(values: list[object], element: str) -> bool:
    parts = element.split(" . ")
    assert len(parts) == len(values), element
    address, *others = zip(values, parts, strict=True)
    low, high = _addresses(address[1])
    assert isinstance(address[0], type(low))
    return low <= address[0] <= high and all(value == (_NUMBERS.get(p) or int(p)) for value, p in others)


def _addresses(text: str) -> tuple[IPAddress, IPAddress]:
    first, _, last = text.partition("-")
    return ip_address(first), ip_address(last or first)


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)
