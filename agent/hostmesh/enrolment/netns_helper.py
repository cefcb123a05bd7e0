"""hostmesh-netns: the one part that may enter other network namespaces, so that the agent need not (setns(2)).

It lays out a fixed table, opens the proxy's listeners or makes unconnected sockets, in a namespace whose
descriptor the caller brings, and hands the sockets over. It reads no file, keeps nothing between two requests, takes
no text that ends up in a rule, and is there only while it is asked: systemd starts it and it ends when nobody asks.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing

from hostmesh.enrolment.netns_messages import GATE, MAX_PACKET, NAMES, BadRequest, Reply, Request, read_request
from hostmesh.kernel import namespaces, netfilter, source_routing
from hostmesh.kernel.gate import open_gate
from hostmesh.model.local import PROXY_MARK
from hostmesh.redirect.namespace_plan import namespace_rules, no_rules
from hostmesh.redirect.plan import TABLE, ListenerPorts
from hostmesh.transport.listeners import BindFailed, bind_listener

IDLE = 60.0
"""Seconds without a request after which it ends."""

_REQUEST_TIMEOUT = 5.0
_FIRST_FD = 3  # sd_listen_fds(3)
Answer = tuple[Reply, list[socket.socket]]
_UCRED = struct.Struct("3i")
_SO_MARK = 36
_QUEUE = 256


def serve(listener: socket.socket, users: frozenset[int], idle: float = IDLE) -> None:
    """Answer one request after the other until nobody asks for `idle` seconds.

    Args:
        listener: a SOCK_SEQPACKET unix socket.
        users: who may ask.
        idle: seconds.
    """
    listener.settimeout(idle)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
        with connection:
            connection.settimeout(_REQUEST_TIMEOUT)
            try:
                _answer(connection, users)
            except OSError as error:
                # the caller went away or was too slow; the next one may be fine
                sys.stderr.write(f"a request was not answered: {error}\n")


def _answer(connection: socket.socket, users: frozenset[int]) -> None:
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    packet, descriptors, _, _ = socket.recv_fds(connection, MAX_PACKET, 1)
    with ExitStack() as made:
        for fd in descriptors:
            made.callback(os.close, fd)
        refused: Answer = (Reply(f"user {uid} may not ask"), [])
        reply, sockets = _carry_out(packet, descriptors, made) if uid in users else refused
        socket.send_fds(connection, [reply.encode()], [sock.fileno() for sock in sockets])


def _carry_out(packet: bytes, descriptors: list[int], made: ExitStack) -> Answer:
    try:
        request = read_request(packet)
        namespace = _namespace(descriptors)
        with namespaces.entered(namespace):
            return _VERBS[request.verb](request, made)
    except (BadRequest, BindFailed, OSError) as error:
        return Reply(str(error) or type(error).__name__), []


def _namespace(descriptors: list[int]) -> int:
    if len(descriptors) != 1:
        raise BadRequest("one descriptor of a network namespace must come with the request")
    fd = descriptors[0]
    namespaces.check(fd, "the descriptor")
    host = namespaces.own()
    try:
        if namespaces.inode(fd) == namespaces.inode(host):
            raise BadRequest("this is the host's own network namespace, which is not captured in this way")
    finally:
        os.close(host)
    return fd


# In the namespace


def _enter(request: Request, made: ExitStack) -> Answer:
    missing = [str(address) for address in request.addresses if not namespaces.has_address(address)]
    if missing:
        raise BadRequest(f"the namespace does not have the address {', '.join(missing)}")
    namespaces.raise_loopback()
    # Listeners first: a process that runs already must not find a redirection to nobody.
    listeners = _listeners(ListenerPorts(*request.ports), request.socks5, made)
    listeners += _name_sockets(request.dns, made) if request.dns else []
    reply, _ = _lay_out(request, made)
    return Reply("", tuple(kind for kind, _ in listeners), reply.digest), [sock for _, sock in listeners]


def _listeners(ports: ListenerPorts, socks5: int, made: ExitStack) -> list[tuple[str, socket.socket]]:
    opened = [("outbound", _open("127.0.0.1", ports.outbound, made))]
    if socks5:
        opened.append(("socks5", _open("127.0.0.1", socks5, made)))
    for kind, address, instead, port in (
        ("outbound", "::1", None, ports.outbound),
        ("inbound_plaintext", "::", "0.0.0.0", ports.inbound_plaintext),
        ("inbound", "::", "0.0.0.0", ports.inbound),
    ):
        try:
            opened.append((kind, _open(address, port, made)))
        except BindFailed as error:
            # Without IPv6 there is nothing to listen for; whatever else is the matter stops the enrolment.
            if _errno(error) not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            if instead is not None:
                opened.append((kind, _open(instead, port, made)))
    return opened


def _name_sockets(port: int, made: ExitStack) -> list[tuple[str, socket.socket]]:
    """Where questions about names are answered on loopback, and what sends them there only while somebody holds it."""
    opened: list[tuple[str, socket.socket]] = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            sock = made.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC))
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(kind == socket.SOCK_STREAM))
                sock.bind((address, port))
                if kind == socket.SOCK_STREAM:
                    sock.listen(_QUEUE)
            except OSError as error:
                if family == socket.AF_INET6 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                raise BadRequest(f"names cannot be answered at {address} port {port}: {error.strerror}") from error
            opened.append((NAMES, sock))
    return [*opened, (GATE, made.enter_context(closing(open_gate())))]


def _errno(error: BindFailed) -> int | None:
    return error.__cause__.errno if isinstance(error.__cause__, OSError) else None


def _open(address: str, port: int, made: ExitStack) -> socket.socket:
    # Shared: an agent that starts again finds listeners that workers of the former one still hold.
    return made.enter_context(closing(bind_listener(address, port, dual_stack=address == "::", share_port=True)))


def _lay_out(request: Request, made: ExitStack) -> Answer:
    source = request.original_source
    if source:
        source_routing.apply(PROXY_MARK)
    try:
        ports = ListenerPorts(*request.ports)
        netfilter.run(namespace_rules(ports, request.excluded, request.dns, original_source=source))
    except OSError:
        source_routing.remove(PROXY_MARK)
        raise
    if not source:
        source_routing.remove(PROXY_MARK)
    return _digest(request, made)


def _digest(request: Request, made: ExitStack) -> Answer:
    del request, made
    listing = netfilter.list_table("inet", TABLE)
    routing = sorted(source_routing.missing(PROXY_MARK))
    return Reply(digest=hashlib.sha256(f"{listing}{routing}".encode()).hexdigest() if listing else ""), []


def _sockets(request: Request, made: ExitStack) -> Answer:
    family = socket.AF_INET6 if request.ipv6 else socket.AF_INET
    kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    sockets = [made.enter_context(socket.socket(family, kind)) for _ in range(request.count)]
    for sock in sockets:
        # Never captured, whoever ends up with it.
        sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, PROXY_MARK)
    return Reply(), sockets


def _leave(request: Request, made: ExitStack) -> Answer:
    del request, made
    netfilter.run(no_rules())
    source_routing.remove(PROXY_MARK)
    return Reply(), []


_VERBS: dict[str, Callable[[Request, ExitStack], Answer]] = {
    "enter": _enter,
    "rules": _lay_out,
    "digest": _digest,
    "sockets": _sockets,
    "leave": _leave,
}


def main() -> None:
    """Entry point of `python -m hostmesh.enrolment.netns_helper`; systemd hands the listening socket over.

    Who may ask is who owns the socket's file, and root.
    """
    with socket.socket(fileno=_FIRST_FD) as listener:
        owner = os.stat(listener.getsockname()).st_uid  # noqa: PTH116 - a name as the kernel has it
        serve(listener, frozenset({0, owner}))


if __name__ == "__main__":
    main()
