"""CEL (the Common Expression Language's grammar): is a text an expression, and one over attributes that Envoy has?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hostmesh.config.strict_yaml import suggest

_DEPTH = 32
_SPACE = re.compile(r"\s*(?://[^\n]*(?:\n|$)\s*)*")
_TOKEN = re.compile(
    r"""(?:
      (?P<text>[rR](?:"[^"\n]*"|'[^'\n]*')|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:[0-9]+\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?[uU]?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>\|\||&&|[<>=!]=|[-+*/%<>!?:.,()[\]{}])
    )""",
    re.VERBOSE,
)
_RESERVED = ("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package")
_CONSTANTS = ("true", "false", "null")
_MACROS = ("all", "exists", "exists_one", "map", "filter")
_BINARY = (("||",), ("&&",), ("<", "<=", ">=", ">", "==", "!=", "in"), ("+", "-"), ("*", "/", "%"))

_CERTIFICATE = ("subject", "dns_san", "uri_san")
_CERTIFICATES = tuple(f"{kind}_{side}_certificate" for kind in _CERTIFICATE for side in ("local", "peer"))
ATTRIBUTES = {
    "request": (
        *("path", "url_path", "host", "scheme", "method", "headers", "referer", "useragent", "time", "id"),
        *("protocol", "query", "duration", "size", "total_size"),
    ),
    "response": (
        *("code", "code_details", "flags", "grpc_status", "headers", "trailers", "size", "total_size"),
        "backend_latency",
    ),
    "source": ("address", "port"),
    "destination": ("address", "port"),
    "connection": (
        *("id", "mtls", "requested_server_name", "tls_version", "sha256_peer_certificate_digest"),
        *("termination_details", "transport_failure_reason", *_CERTIFICATES),
    ),
    "upstream": (
        *("address", "port", "tls_version", "sha256_peer_certificate_digest", "local_address", *_CERTIFICATES),
        *("transport_failure_reason", "request_attempt_count", "cx_pool_ready_duration", "locality"),
    ),
    "xds": (
        *("cluster_name", "cluster_metadata", "listener_direction", "listener_metadata", "node", "route_name"),
        *("route_metadata", "upstream_host_metadata", "upstream_host_locality_metadata", "filter_chain_name"),
        *("virtual_host_name", "virtual_host_metadata"),
    ),
    "metadata": (),
    "filter_state": (),
    "upstream_filter_state": (),
}
"""Envoy's, by their first word; those without a list have whatever was put into them."""


class NotCel(Exception):
    """What is wrong with an expression, and where."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def check(text: str) -> None:
    """Find out whether a text is an expression over Envoy's attributes.

    Raises:
        NotCel: it is not.
    """
    parser = _Parser(list(_tokens(text)))
    parser.expression(0)
    if (rest := parser.peek()).kind != "end":
        raise NotCel(f"not CEL: {rest.text!r} at character {rest.position + 1} is not expected there")


def for_waypoint(text: str, names: Mapping[str, str]) -> str:
    """The same expression on one line, with attributes replaced by `names`.

    It can stand within Envoy's `%CEL(...)%`, which ends at the first `)%` or `):`.
    """
    texts = [_safe(token) for token in _tokens(text) if token.kind != "end"]
    made: list[str] = []
    for one in texts:
        made.append(one)
        if (instead := names.get("".join(made[-3:]))) is not None and made[-4:-3] != ["."]:
            made[-3:] = [instead]
    return " ".join(made)


def _safe(token: _Token) -> str:
    if token.kind != "text":
        return token.text
    text = token.text[1:].replace("\\", r"\\") if token.text[0] in "rR" else token.text
    return text.replace(")", r"\x29")


def _tokens(text: str) -> Iterator[_Token]:
    position = _after_space(text, 0)
    while match := _TOKEN.match(text, position):
        kind = str(match.lastgroup)
        yield _Token(kind, match.group(kind), position)
        position = _after_space(text, match.end())
    if position < len(text):
        raise NotCel(f"not CEL: {text[position : position + 20]!r} at character {position + 1} begins nothing")
    yield _Token("end", "the end", len(text))


def _after_space(text: str, position: int) -> int:
    """Where white space and remarks end."""
    found = _SPACE.match(text, position)
    return found.end() if found is not None else position


class _Parser:
    """Goes through the tokens once; the grammar's rules are its methods."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        texts = [token.text for token in tokens]
        # `list.exists(x, x == 1)`: x is a name of its own
        four = zip(texts, texts[1:], texts[2:], texts[3:], strict=False)
        self._bound = {name for macro, sign, name, end in four if macro in _MACROS and (sign, end) == ("(", ",")}

    def peek(self) -> _Token:
        return self._tokens[self._at]

    def _next(self) -> _Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _taken(self, *signs: str) -> str:
        token = self.peek()
        if token.text in signs and token.kind in ("sign", "name"):
            self._next()
            return token.text
        return ""

    def _expect(self, sign: str) -> None:
        token = self.peek()
        if not self._taken(sign):
            raise NotCel(f"not CEL: {sign!r} is expected at character {token.position + 1}, not {token.text!r}")

    def expression(self, depth: int) -> None:
        """`a || b ? c : d`."""
        if depth > _DEPTH:
            raise NotCel(f"nested deeper than {_DEPTH} levels")
        self._binary(0, depth)
        if self._taken("?"):
            self._binary(0, depth)
            self._expect(":")
            self.expression(depth + 1)

    def _binary(self, level: int, depth: int) -> None:
        if level == len(_BINARY):
            self._unary(depth)
            return
        self._binary(level + 1, depth)
        while self._taken(*_BINARY[level]):
            self._binary(level + 1, depth)

    def _unary(self, depth: int) -> None:
        while self._taken("!") or self._taken("-"):
            pass
        self._primary(depth)
        while sign := self._taken(".", "["):
            if sign == "[":
                self.expression(depth + 1)
                self._expect("]")
            else:
                self._name()
                if self._taken("("):
                    self._arguments(")", depth)

    def _name(self) -> _Token:
        token = self._next()
        if token.kind != "name":
            raise NotCel(f"not CEL: a name is expected at character {token.position + 1}, not {token.text!r}")
        return token

    def _primary(self, depth: int) -> None:
        if sign := self._taken("(", "[", "{"):
            if sign == "(":
                self.expression(depth + 1)
                self._expect(")")
            else:
                self._arguments({"[": "]", "{": "}"}[sign], depth)
            return
        token = self._next()
        if token.kind in ("text", "number") or token.text in _CONSTANTS:
            return
        if token.kind != "name" or token.text in _RESERVED:
            raise NotCel(f"not CEL: a value is expected at character {token.position + 1}, not {token.text!r}")
        if self._taken("("):
            self._arguments(")", depth)
        else:
            self._attribute(token)

    def _arguments(self, end: str, depth: int) -> None:
        """`a, b` or `a: b, c: d`."""
        while not self._taken(end):
            self.expression(depth + 1)
            if end == "}":
                self._expect(":")
                self.expression(depth + 1)
            if not self._taken(","):
                self._expect(end)
                return

    def _attribute(self, token: _Token) -> None:
        """One that Envoy does not have is no value at all: a filter would never let anything through."""
        if token.text in self._bound:
            return
        if token.text not in ATTRIBUTES:
            raise NotCel(f"there is no attribute {token.text!r}; {suggest(token.text, ATTRIBUTES)}")
        known, following = ATTRIBUTES[token.text], self._tokens[self._at : self._at + 2]
        if known and len(following) > 1 and following[0].text == "." and following[1].text not in known:
            name = following[1].text
            raise NotCel(f"there is no attribute {token.text}.{name}; {suggest(name, known)}")
