"""DNS messages sans I/O: questions in, answers out (RFC 1035, EDNS of RFC 6891); dnspython does the parsing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from hostmesh.model.address import IPAddress

HEADER = 12
PLAIN_UDP = 512
"""What a client without EDNS takes over UDP."""
MAX_MESSAGE = 65535
MAX_RECORDS = 2000
"""Of one answer: so many fit into a message, whatever their names."""
TTL = 30
A, AAAA = int(dns.rdatatype.A), int(dns.rdatatype.AAAA)
NOERROR, SERVFAIL, NXDOMAIN = int(dns.rcode.NOERROR), int(dns.rcode.SERVFAIL), int(dns.rcode.NXDOMAIN)
NOTIMP, REFUSED = int(dns.rcode.NOTIMP), int(dns.rcode.REFUSED)


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `name` is in lower case without the dot at its end; `limit` is what the client takes over UDP."""

    name: str
    type: int
    limit: int
    message: dns.message.Message
    data: bytes

    @property
    def type_name(self) -> str:
        """`a`, `aaaa`, `txt`, ..."""
        return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(self.type)).lower()


@dataclass(frozen=True, slots=True)
class Refused:
    """No question for us; `reply` says so to the client, empty where not even that can be said."""

    reply: bytes = b""


def parse_query(data: bytes) -> Query | Refused:
    """Read what a client sent: a query with one question; anything else is refused."""
    try:
        message = dns.message.from_wire(data, ignore_trailing=True)
        name = message.question[0].name.to_text(omit_final_dot=True).lower() if message.question else ""
    except (dns.exception.DNSException, ValueError, NotImplementedError):
        return Refused(_header_only(data, dns.rcode.FORMERR))
    if message.flags & dns.flags.QR:
        return Refused(_header_only(data, dns.rcode.FORMERR))
    if message.opcode() != dns.opcode.QUERY:
        return Refused(_header_only(data, dns.rcode.NOTIMP))
    if len(message.question) != 1 or message.question[0].rdclass != dns.rdataclass.IN:
        return Refused(_header_only(data, dns.rcode.FORMERR))
    limit = max(message.payload, PLAIN_UDP) if message.edns >= 0 else PLAIN_UDP
    return Query(name, int(message.question[0].rdtype), limit, message, data)


def answer(query: Query, addresses: Sequence[IPAddress], alias: str = "", limit: int = MAX_MESSAGE) -> bytes:
    """An authoritative answer: the first addresses of the name, as many as fit, in random order.

    Args:
        query: what was asked.
        addresses: all of the family that was asked for.
        alias: the name that the question is another one for; the addresses are said to be its.
        limit: bytes that the client takes; beyond that it is told to come back over TCP.
    """
    response = _response(query, dns.flags.AA)
    owner = query.message.question[0].name
    if alias:
        target = dns.name.from_text(f"{alias}.")
        response.answer.append(dns.rrset.from_text(owner, TTL, dns.rdataclass.IN, dns.rdatatype.CNAME, str(target)))
        owner = target
    kept = [str(address) for address in addresses[:MAX_RECORDS]]
    if len(kept) < len(addresses):
        response.flags |= dns.flags.TC
    while True:
        if kept:
            found = dns.rrset.from_text(owner, TTL, dns.rdataclass.IN, dns.rdatatype.RdataType.make(query.type), *kept)
            response.answer.append(found)
        data = response.to_wire(max_size=MAX_MESSAGE)
        if len(data) <= limit or not kept:
            return data
        response.answer.pop()
        response.flags |= dns.flags.TC
        over = len(data) - limit
        size = 16 if query.type == A else 28
        kept = kept[: max(0, len(kept) - -(-over // size))]


def status(query: Query, rcode: int, *, authoritative: bool = False) -> bytes:
    """An answer without records."""
    response = _response(query, dns.flags.AA if authoritative else 0)
    response.set_rcode(dns.rcode.Rcode.make(rcode))
    return response.to_wire(max_size=MAX_MESSAGE)


def truncated(query: Query, data: bytes) -> bytes:
    """What a client over UDP gets instead of an answer that is too large for it."""
    if len(data) <= query.limit:
        return data
    response = _response(query, 0)
    response.flags |= dns.flags.TC
    return response.to_wire(max_size=MAX_MESSAGE)


def with_id(data: bytes, number: int) -> bytes:
    """The message under another id."""
    return number.to_bytes(2, "big") + data[2:]


def answers(data: bytes, query: Query, number: int) -> bool:
    """Whether a message is the answer to this very question under that id: a stranger can guess neither easily."""
    if len(data) < HEADER or data[:2] != number.to_bytes(2, "big") or not data[2] & 0x80:
        return False
    end = HEADER + _question_length(query.data)
    return data[4:6] == b"\x00\x01" and data[HEADER:end].lower() == query.data[HEADER:end].lower()


def outcome(data: bytes) -> tuple[int, bool]:
    """Of an answer that `answers` has accepted: its rcode, and whether it has records."""
    return data[3] & 0x0F, data[6:8] != b"\x00\x00"


def _response(query: Query, flags: int) -> dns.message.Message:
    response: dns.message.Message = dns.message.QueryMessage(query.message.id)
    response.flags = dns.flags.QR | dns.flags.RA | flags | (query.message.flags & (dns.flags.RD | dns.flags.CD))
    response.question = list(query.message.question)
    if query.message.edns >= 0:
        response.use_edns(0, query.message.ednsflags & dns.flags.DO, max(query.message.payload, PLAIN_UDP))
    return response


def _header_only(data: bytes, rcode: int) -> bytes:
    """Id and opcode as they came; empty where there is no header."""
    if len(data) < HEADER:
        return b""
    return data[:2] + bytes([0x80 | data[2] & 0x79, 0x80 | rcode]) + bytes(8)


def _question_length(data: bytes) -> int:
    """Of a question that has been parsed; its name has no pointers, as nothing is before it."""
    end = HEADER
    while data[end]:
        end += 1 + data[end]
    return end + 5 - HEADER
