"""The language of iptables-restore(8) as our rules use it, read strictly, for who hands rules over by a library."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class BadRules(ValueError):
    """The text is not of the part of the language that is understood; it quotes what is not."""


@dataclass(frozen=True, slots=True)
class Extension:
    """A match or target by name, with options as libxtables takes them: a leading `!` inverts."""

    name: str
    options: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """What of a packet is looked at, and where it goes. Selectors are empty or as `Extension.options`."""

    protocol: str = ""
    source: str = ""
    destination: str = ""
    into: str = ""
    out: str = ""
    matches: tuple[Extension, ...] = ()
    target: Extension = Extension("")
    goto: bool = False


class Verb(Enum):
    """What is done to a chain; EMPTY makes one that is not there."""

    EMPTY = ":"
    APPEND = "-A"
    DELETE = "-D"
    INSERT = "-I"
    DISCARD = "-X"


@dataclass(frozen=True, slots=True)
class Command:
    """One line. INSERT is always before the first rule."""

    verb: Verb
    chain: str
    rule: Rule = Rule()


Options = list[tuple[str, tuple[str, ...]]]

_SELECTORS = {"-p": "protocol", "-s": "source", "-d": "destination", "-i": "into", "-o": "out"}
_ARGUMENTS = {"--tcp-flags": 2, "--syn": 0, "--set": 0}
_SYN = ("--tcp-flags", ("FIN,SYN,RST,ACK", "SYN"))
_OF_TCP = frozenset({"--dport", "--sport", "--tcp-flags"})


def parse(text: str) -> dict[str, list[Command]]:
    """The commands by table, in their order.

    Raises:
        BadRules: a line is not understood, or a table does not end.
    """
    tables: dict[str, list[Command]] = {}
    table: list[Command] | None = None
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("*"):
            table = tables.setdefault(line[1:], [])
        elif table is None:
            raise BadRules(f"{line!r} stands in no table")
        elif line == "COMMIT":
            table = None
        elif line.startswith(":"):
            table.append(Command(Verb.EMPTY, _named_first(line[1:])))
        else:
            table.append(_command(line))
    if table is not None:
        raise BadRules("the last table has no COMMIT")
    return tables


def _named_first(words: str) -> str:
    if not words.strip():
        raise BadRules("':' names no chain")
    return words.split()[0]


def _command(line: str) -> Command:
    try:
        words = shlex.split(line)
        verb, chain, *rest = words
        command = Verb(verb)
    except ValueError as error:
        raise BadRules(f"{line!r} is no command: {error}") from error
    if command is Verb.INSERT:
        if rest[:1] != ["1"]:
            raise BadRules(f"{line!r} does not insert at the first place")
        rest = rest[1:]
    return Command(command, chain, _rule(rest, line) if rest else Rule())


def _rule(words: list[str], line: str) -> Rule:
    said: dict[str, str] = {}
    matches: list[tuple[str, Options]] = []
    tcp: Options = []
    target, after = "", ""
    options: Options = []
    into: Options | None = None
    for inverted, option, values in _options(words, line):
        sign = "!" if inverted else ""
        if option in _SELECTORS:
            said[_SELECTORS[option]] = sign + values[0]
        elif option == "-m":
            into = []
            matches.append((values[0], into))
        elif option in ("-j", "-g"):
            target, after, into = values[0], option, options
        else:
            name, values = _SYN if option == "--syn" else (option, values)
            where = tcp if name in _OF_TCP else into
            if where is tcp and not tcp:
                matches.append(("tcp", tcp))
            if where is None:
                raise BadRules(f"{line!r}: {option} belongs to no match and no target")
            if not values and inverted:
                raise BadRules(f"{line!r}: {option} cannot be inverted")
            where.append((name.removeprefix("--"), (sign + values[0], *values[1:]) if values else ()))
    return Rule(
        **said,
        matches=tuple(Extension(name, tuple(found)) for name, found in matches),
        target=Extension(target, tuple(options)),
        goto=after == "-g",
    )


def _options(words: list[str], line: str) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    left = iter(words)
    for word in left:
        inverted = word == "!"
        option = next(left, "") if inverted else word
        if not option.startswith("-"):
            raise BadRules(f"{line!r}: {option!r} is no option")
        values = tuple(value for _, value in zip(range(_ARGUMENTS.get(option, 1)), left, strict=False))
        if len(values) != _ARGUMENTS.get(option, 1):
            raise BadRules(f"{line!r} ends after {option}")
        yield inverted, option, values
