"""The language of iptables-restore, as far as our rules use it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.kernel.iptables_text import BadRules, Command, Extension, Rule, Verb, parse


def test_a_table() -> None:
    """Chains, rules, and where they stand."""
    text = (
        "*nat\n:OURS - [0:0]\n-D OUTPUT -j OURS\n-I OUTPUT 1 -j OURS\n"
        "-A OURS ! -o lo -p tcp --syn --dport 80 -m mark --mark 0x1/0xf -m mark ! --mark 0x0/0xf0 "
        '-m comment --comment "a b" -j REDIRECT --to-ports 15001\n-A OURS -g OTHER\n-X OLD\nCOMMIT\n'
    )
    jump = Rule(target=Extension("OURS"))
    rule = Rule(
        protocol="tcp",
        out="!lo",
        matches=(
            Extension("tcp", (("tcp-flags", ("FIN,SYN,RST,ACK", "SYN")), ("dport", ("80",)))),
            Extension("mark", (("mark", ("0x1/0xf",)),)),
            Extension("mark", (("mark", ("!0x0/0xf0",)),)),
            Extension("comment", (("comment", ("a b",)),)),
        ),
        target=Extension("REDIRECT", (("to-ports", ("15001",)),)),
    )
    assert parse(text) == {
        "nat": [
            Command(Verb.EMPTY, "OURS"),
            Command(Verb.DELETE, "OUTPUT", jump),
            Command(Verb.INSERT, "OUTPUT", jump),
            Command(Verb.APPEND, "OURS", rule),
            Command(Verb.APPEND, "OURS", Rule(target=Extension("OTHER"), goto=True)),
            Command(Verb.DISCARD, "OLD"),
        ]
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-A X -j Y", "stands in no table"),
        ("*nat\n-A X -j Y", "no COMMIT"),
        ("*nat\n:\nCOMMIT", "names no chain"),
        ("*nat\n-R X 1 -j Y\nCOMMIT", "no command"),
        ("*nat\n-I X 2 -j Y\nCOMMIT", "first place"),
        ("*nat\n-A X --mark 1 -j Y\nCOMMIT", "belongs to no match"),
        ("*nat\n-A X -j\nCOMMIT", "ends after -j"),
        ("*nat\n-A X surprise\nCOMMIT", "is no option"),
        ("*nat\n-A X --comment 'a\nCOMMIT", "is no command"),
    ],
)
def test_what_is_not_understood_is_quoted(text: str, why: str) -> None:
    """Nothing is half understood."""
    with pytest.raises(BadRules, match=why):
        parse(text)


@given(st.text(max_size=200))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """Nothing but BadRules comes out."""
    with suppress(BadRules):
        parse("*nat\n" + text)
