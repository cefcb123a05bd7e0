"""DNS messages: what is read, what is refused, and how answers are built."""

from __future__ import annotations

from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.wire.dns import (
    NXDOMAIN,
    Query,
    Refused,
    answer,
    answers,
    outcome,
    parse_query,
    status,
    truncated,
    with_id,
)


def ask(name: str = "Web.Prod.", kind: str = "A", **more: object) -> Query:
    query = parse_query(dns.message.make_query(name, kind, **more).to_wire())  # type: ignore[arg-type]
    assert isinstance(query, Query)
    return query


def test_a_question_is_read() -> None:
    """Its name in lower case; without EDNS 512 bytes are taken over UDP, with it what it says."""
    assert (ask().name, ask().type_name, ask().limit) == ("web.prod", "a", 512)
    assert ask(use_edns=0, payload=4096).limit == 4096
    assert ask(use_edns=0, payload=100).limit == 512


@given(st.binary(max_size=600))
def test_any_bytes_are_a_question_or_refused(data: bytes) -> None:
    """Whatever a stranger sends; and nothing is said to what is no message at all."""
    found = parse_query(data)
    if isinstance(found, Refused) and found.reply:
        assert len(found.reply) == 12
        assert found.reply[:2] == data[:2]


@given(st.data())
def test_damaged_questions(data: st.DataObject) -> None:
    """One that was cut or changed somewhere is a question or refused; what is a question can be answered."""
    whole = bytearray(dns.message.make_query("a.b.c", "AAAA", use_edns=0).to_wire())
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    found = parse_query(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    if isinstance(found, Query):
        assert answers(status(found, NXDOMAIN), found, found.message.id)


@pytest.mark.parametrize(
    ("change", "rcode"),
    [(dns.flags.QR, dns.rcode.FORMERR), (2 << 11, dns.rcode.NOTIMP)],
)
def test_what_is_no_query_is_told_so(change: int, rcode: int) -> None:
    """An answer, or another operation."""
    data = bytearray(dns.message.make_query("a.", "A").to_wire())
    data[2] |= change >> 8
    refused = parse_query(bytes(data))
    assert isinstance(refused, Refused)
    assert refused.reply[3] & 0x0F == rcode


def test_an_answer() -> None:
    """Authoritative, the question as it was written, the flags that the client set, EDNS for EDNS alone."""
    query = ask(use_edns=0, want_dnssec=True, payload=1400)
    said = dns.message.from_wire(answer(query, [ip_address("240.240.0.1"), ip_address("240.240.0.2")]))
    (found,) = said.answer
    assert sorted(str(found).splitlines()) == ["Web.Prod. 30 IN A 240.240.0.1", "Web.Prod. 30 IN A 240.240.0.2"]
    assert said.flags == dns.flags.QR | dns.flags.AA | dns.flags.RA | dns.flags.RD
    assert (said.edns, said.payload, said.ednsflags) == (0, 1400, dns.flags.DO)
    nothing = dns.message.from_wire(answer(ask(), []))
    assert (nothing.rcode(), nothing.edns) == (dns.rcode.NOERROR, -1)
    assert (nothing.answer, nothing.authority, nothing.additional) == ([], [], [])


def test_an_alias() -> None:
    """The answer says what the question is another name for."""
    said = dns.message.from_wire(answer(ask("web.prod.svc.x.", "AAAA"), [ip_address("2001:2::1")], "web.prod"))
    assert [str(each) for each in said.answer] == [
        "web.prod.svc.x. 30 IN CNAME web.prod.",
        "web.prod. 30 IN AAAA 2001:2::1",
    ]


@given(st.integers(1, 300), st.sampled_from([512, 600, 1232, 4096]), st.booleans())
def test_as_many_records_as_fit(count: int, limit: int, ipv6: bool) -> None:
    """Never more than the limit, never one less than would fit, and the client is told to come back over TCP."""
    base = int(ip_address("2001:2::" if ipv6 else "240.240.0.0"))
    addresses = [ip_address(base + number) for number in range(count)]
    query = ask(kind="AAAA" if ipv6 else "A", use_edns=0, payload=limit)
    data = answer(query, addresses, limit=query.limit)
    said = dns.message.from_wire(data)
    found = len(said.answer[0]) if said.answer else 0
    size = 28 if ipv6 else 16
    assert len(data) <= limit
    assert bool(said.flags & dns.flags.TC) == (found < count)
    assert found == count or len(data) + size > limit


def test_more_records_than_a_message_holds() -> None:
    """Over TCP too: as many as fit, and the client knows."""
    data = answer(ask(kind="AAAA"), [ip_address((0x20010002 << 96) + n) for n in range(5000)])
    said = dns.message.from_wire(data)
    assert (len(said.answer[0]), said.flags & dns.flags.TC) == (2000, dns.flags.TC)


def test_answers_of_strangers() -> None:
    """Another id, another question, no answer: none of them is taken."""
    query = ask("web.prod.")
    good = status(query, NXDOMAIN)
    assert answers(with_id(good, 7), query, 7)
    assert outcome(good) == (NXDOMAIN, False)
    assert not answers(with_id(good, 7), query, 8)
    assert not answers(with_id(query.data, 7), query, 7)
    assert not answers(with_id(status(ask("web.test."), NXDOMAIN), 7), query, 7)
    assert not answers(good[:11], query, query.message.id)


def test_what_is_too_large_for_a_client_is_cut() -> None:
    """It gets the question back and is told to ask over TCP."""
    large = answer(ask(use_edns=0, payload=4096), [ip_address(0xF0000000 + n) for n in range(100)])
    cut = dns.message.from_wire(truncated(ask(), large))
    assert (cut.flags & dns.flags.TC, cut.answer) == (dns.flags.TC, [])
    assert truncated(ask(use_edns=0, payload=4096), large) == large
