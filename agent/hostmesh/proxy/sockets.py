"""Sockets as the byte path uses them: accepted in batches, connected without waiting, closed by reset on failure."""

from __future__ import annotations

import _socket
import errno
import socket
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final

from hostmesh.config.proxy import ProxyConfig
from hostmesh.kernel import sockets as options
from hostmesh.model.address import SocketAddress
from hostmesh.proxy.stock import Stock
from hostmesh.transport.loop import BROKEN, Loop
from hostmesh.transport.timers import Timer

DONTWAIT: Final = _socket.MSG_DONTWAIT
DONTWAIT_NOSIGNAL: Final = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL

ACCEPT_BATCH: Final = 64
"""Connections accepted in one turn; the listener is level-triggered, so the rest come in the next one."""

_GONE: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR})
"""The connection in front of the queue died or was filtered; the next one may be fine (accept(2))."""

_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EALREADY})

_BY_CHANCE: Final = frozenset({errno.ECONNREFUSED, errno.EADDRINUSE})
"""See `LOCAL_ATTEMPTS`: another source port may do."""

_NONBLOCKING_STREAM: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

LOCAL_ATTEMPTS: Final = 4
"""Attempts for a workload's own port. The kernel cannot tell whose listener a SYN is for if a connection with the same
four addresses is in TIME_WAIT (an application that closes first leaves thousands), so the guard resets it. Another
attempt has another source port."""

_WAITING: Final = 1 << 20
"""Unread, and unsent, of a process of this host that says or is told much (see `keep_close`). What comes in two reads
of a tunnel should fit, or its rest is copied and waits for another turn."""

_INET_NAME: Final = 2
"""Parts of an IPv4 socket's name; an IPv6 one has four. Asking the listener for its family makes an enum each time."""


def accept_all(
    listener: socket.socket, accepted: Callable[[_socket.socket, SocketAddress], None], batch: int = ACCEPT_BATCH
) -> None:
    """Take the sockets that wait in the listener's queue, with their peers' addresses.

    They are used with MSG_DONTWAIT only, which saves the call that would make them non-blocking. How many there are is
    asked before, because to learn it from an exception costs several times as much.

    Raises:
        OSError: no descriptors or memory left.
    """
    for _ in range(min(max(options.accept_queue(listener), 1), batch)):
        try:
            fd, name = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001  `accept` adds two calls
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _GONE:
                continue
            raise
        family = _socket.AF_INET if len(name) == _INET_NAME else _socket.AF_INET6
        sock = _socket.socket(family, _socket.SOCK_STREAM, 0, fd)
        accepted(sock, SocketAddress.of(name[0].partition("%")[0], name[1]))


class Connect:
    """A TCP connection being made. It owns the socket until `then` is called with it.

    Args:
        loop: registers the socket; on success it stays registered and gets a new handler.
        address: where to.
        limit: seconds, for all attempts.
        then: gets this object and an errno, 0 when connected. After a failure the socket is closed. `seen` is then
            the event that said so: it may have announced the first bytes too, and is not repeated.
        mark: SO_MARK.
        local: to a process of this kernel, perhaps in another network namespace. It is connected when this returns,
            unless its queue is full: `connected` says so, and `then` is not called.
        stock: where sockets come from that must be of another network namespace.
        config: says how a peer that is gone is noticed; None leaves it to the kernel, which ends the connections of
            its own processes with them.
        source: the client whose address the other side shall see; another port than the client's own.
    """

    __slots__ = (
        "_address",
        "_attempts",
        "_config",
        "_local",
        "_loop",
        "_mark",
        "_source",
        "_stock",
        "_then",
        "_timer",
        "_waiting",
        "connected",
        "seen",
        "sock",
    )

    def __init__(
        self,
        loop: Loop,
        address: SocketAddress,
        limit: float,
        then: Callable[[Connect, int], None],
        mark: int | None,
        *,
        local: bool = False,
        stock: Stock | None = None,
        config: ProxyConfig | None = None,
        source: SocketAddress | None = None,
    ) -> None:
        self._loop = loop
        self._config = config
        self._source = source
        self._address = address
        self._mark = mark
        self._local = local
        self._attempts = LOCAL_ATTEMPTS if local else 1
        self._stock = stock
        self._then: Callable[[Connect, int], None] | None = then
        self._timer: Timer | None = None
        self._waiting = False
        self.connected = False
        self.seen = 0
        number = self._open()
        if number:
            loop.call_later(0, lambda: self._finish(number))
        elif self.connected:
            self._then = None
        else:
            self._timer = loop.call_later(limit, self._expired)

    def _open(self) -> int:
        """Start an attempt, and others while it fails at once by chance; an errno if none could be started."""
        while True:
            number = self._attempt()
            if number not in _BY_CHANCE or self._attempts <= 0:
                return number
            self._loop.close_later(self.sock)

    def _attempt(self) -> int:
        self._attempts -= 1
        ipv6 = isinstance(self._address.ip, IPv6Address)
        if self._stock is None:
            self._waiting = True
            try:
                self.sock = _socket.socket(_socket.AF_INET6 if ipv6 else _socket.AF_INET, _NONBLOCKING_STREAM)
            except OSError as error:  # no descriptors are left: one connection fails, not the tunnel that it came by
                return error.errno or errno.EMFILE
            self._waiting = False
            return self._start()
        sock = self._stock.take(self, ipv6=ipv6)
        self._waiting = sock is None
        if sock is None:
            return 0
        self.sock = sock
        return self._start()

    def supplied(self, sock: _socket.socket | None, number: int) -> bool:
        """The stock has answered; False if nobody wants to connect any more."""
        if self._then is None:
            return False
        if sock is not None:
            self._waiting = False
            self.sock = sock
            number = self._start()
        if number or self.connected:
            self._finish(number)
        return True

    def _start(self) -> int:
        address = self._address
        try:
            if self._mark is not None:
                options.set_mark(self.sock, self._mark)
            self.sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            if self._config is not None:
                watch_peer(self.sock, self._config)
            if self._source is not None:
                options.bind_as(self.sock, str(self._source.ip))
            elif self._local and self._attempts < LOCAL_ATTEMPTS - 1:
                self.sock.bind(("", 0))  # at random; unbound sockets get ports in a row, which all have just ended
            number = self._connect((address.host, address.port))
            if self._source is not None and self.sock.getsockname()[1] == self._source.port:
                # The kernel drew the client's own port: connection tracking takes this for the client's packet.
                number = errno.EADDRINUSE
        except OSError as error:
            return error.errno or errno.EIO
        if number in _UNDER_WAY:
            number = 0
        else:
            self.connected = not number
        if not number:
            self._loop.register(self.sock.fileno(), self._ready, writable=not self.connected)
        return number

    def _connect(self, name: tuple[str, int]) -> int:
        """An errno. A call never waits; but packets to this kernel are through when it ends, and a second one knows."""
        number = self.sock.connect_ex(name)
        return self.sock.connect_ex(name) if number == errno.EINPROGRESS and self._local else number

    def cancel(self) -> None:
        """Nobody wants it any more; `then` will not be called."""
        self._then = None
        self._finish(errno.ECANCELED)

    def _ready(self, mask: int) -> None:
        self.seen = mask
        number = self.sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR) if mask & BROKEN else 0
        if number == errno.ECONNREFUSED and self._attempts > 0:
            self._loop.close_later(self.sock)
            number = self._open()
            if not number and not self.connected:
                return
        self._finish(number)

    def _expired(self) -> None:
        self._finish(errno.ETIMEDOUT)

    def _finish(self, number: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        then, self._then = self._then, None
        if number and not self._waiting:
            self._loop.close_later(self.sock)
        if then is not None:
            then(self, number)


def seen_source(enabled: bool, peer: SocketAddress, target: SocketAddress) -> SocketAddress | None:
    """Whose address an application shall see, None for the host's own.

    Args:
        enabled: whether replies to foreign addresses come back here.
        peer: who connected.
        target: the application. Its own address cannot be a client's, nor can one of the other family.
    """
    if not enabled or peer.ip == target.ip or peer.ip.version != target.ip.version or target.ip.is_loopback:
        return None
    return peer


def keep_close(sock: _socket.socket) -> None:
    """Let little wait in a connection with a process of this host, whose packets take no time.

    Left to itself the kernel lets queues grow to 32 MiB, all of which has left the processor's cache before it is read.
    Not before the handshake: the window could then never be larger than half of what the buffer holds.
    """
    options.limit_unread(sock, _WAITING)
    options.limit_unsent(sock, _WAITING)


def watch_peer(sock: _socket.socket, config: ProxyConfig) -> None:
    """Notice a peer that is gone without a word: TCP keepalive, and TCP_USER_TIMEOUT where it is wanted."""
    time, interval, probes = config.tcp_keepalive_time, config.tcp_keepalive_interval, config.tcp_keepalive_probes
    if config.tcp_keepalive:
        options.keepalive(sock, time, interval, probes)
    if config.tcp_user_timeout:
        options.user_timeout(sock, time + probes * interval)


TOOK_NO_MORE = frozenset({0, errno.ECONNRESET, errno.EPIPE})
"""What a connection's error is after its own end when it was closed before it had read everything: no failure."""


def error_of(sock: _socket.socket) -> int:
    """What broke the connection, once: the kernel forgets it then; 0 if nothing did."""
    return sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)


def reset(loop: Loop, sock: _socket.socket) -> None:
    """Close so that the other side sees a failure and not the end of an answer."""
    try:
        options.reset_on_close(sock)
    except OSError as error:
        if error.errno != errno.EINVAL:  # what a socket that died before says
            raise
    loop.close_later(sock)
