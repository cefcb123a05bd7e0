"""One connection of the `bundled` engine: OpenSSL's memory BIOs, filled and emptied on the callers' buffers.

pyOpenSSL's connections copy too much; `SSL_read`, `SSL_write` and the BIOs are called as it would call them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from hostmesh.transport.scratch import Scratch, when_idle
from hostmesh.transport.tls import reasons
from hostmesh.transport.tls.engine import (
    ALPN,
    RECORD_OVERHEAD,
    RECORD_SIZE,
    Engine,
    TlsClosed,
    TlsError,
    TlsTruncated,
)
from hostmesh.transport.tls.openssl import certificate_der, ffi, lib

OUT_SIZE: Final = (1 << 20) + (1 << 17)
"""What one turn of a tunnel makes: 1 MiB of plaintext, its records' overhead, and control frames."""

SPARE_BUFFERS: Final = 1
"""More would only help when several tunnels are blocked at once, and stay in memory after it."""
_WORTH_LENDING: Final = 1 << 13

_FULL_RECORD: Final = RECORD_SIZE + RECORD_OVERHEAD
_NOT_ALONE: Final = -1
"""See `_alone`: bytes of ciphertext that were lent while the library had none; if they are one record, none is left."""

_PIECE: Final = 1 << 18
"""Plaintext given to the library at once: bounds what a connection's BIO keeps, and larger ones are slower."""

# What every record passes, looked up once.
_from_buffer: Final = ffi.from_buffer
_ssl_read: Final = lib.SSL_read
_ssl_write: Final = lib.SSL_write
_bio_read: Final = lib.BIO_read
_bio_write: Final = lib.BIO_write
_bio_waiting: Final = lib.BIO_get_mem_data
_NULL: Final = ffi.NULL


class _Buffer:
    """Memory for ciphertext on its way out, with the address that the library writes to."""

    __slots__ = ("address", "scratch", "size", "view")

    def __init__(self, size: int) -> None:
        self.size = size
        self.scratch = Scratch(size)
        self.view = self.scratch.view
        self.address = ffi.from_buffer(self.view)


class _Scratch:
    """The address of a view: a worker's scratch is the same one each time."""

    __slots__ = ("_address", "_view")

    def __init__(self) -> None:
        self._view = memoryview(b"")
        self._address: Any = _NULL

    def address(self, view: memoryview) -> Any:  # noqa: ANN401  cffi
        if view is not self._view:
            self._view = view
            self._address = _from_buffer(view)
        return self._address


class Buffers:
    """Output buffers that no engine holds: idle connections have none, the last one used is the warmest."""

    __slots__ = ("_spare", "ciphertext", "next", "plaintext")

    def __init__(self) -> None:
        self.ciphertext = _Scratch()
        self.plaintext = _Scratch()
        self.next = _Buffer(OUT_SIZE)
        self._spare: list[_Buffer] = []
        when_idle(self._give_back)

    def take(self) -> _Buffer:
        """`next`, which somebody has written to."""
        taken, self.next = self.next, self._spare.pop() if self._spare else _Buffer(OUT_SIZE)
        return taken

    def give(self, buffer: _Buffer) -> None:
        """A buffer that is free again."""
        if buffer.size == OUT_SIZE:
            if len(self._spare) < SPARE_BUFFERS:
                self._spare.append(self.next)
            self.next = buffer

    def _give_back(self) -> None:
        for buffer in (self.next, *self._spare):
            buffer.scratch.give_back()


class BundledEngine(Engine):
    """One connection over two memory BIOs.

    An output buffer belongs to the engine from the moment `pending_out` finds something until all of it is sent.

    Args:
        context: an `SSL_CTX *`; the library keeps it alive for the connection.
        buffers: shared by the engines of a process.
        server_side: which end this is.
        server_name: SNI of a client.
    """

    __slots__ = (
        "_alone",
        "_buffer",
        "_buffers",
        "_closed",
        "_done",
        "_end",
        "_eof",
        "_failed",
        "_in",
        "_lent",
        "_out",
        "_ssl",
        "_start",
    )

    def __init__(self, context: Any, buffers: Buffers, server_side: bool, server_name: str | None) -> None:  # noqa: ANN401
        self._buffers = buffers
        self._buffer: _Buffer | None = None
        self._start = self._end = 0
        self._failed: Callable[[], Exception] | None = None
        self._done = False
        self._eof = False
        self._closed = False
        self._lent = False
        self._alone = _NOT_ALONE
        self._ssl = ssl = ffi.gc(lib.SSL_new(context), lib.SSL_free)
        lib.SSL_clear_mode(ssl, lib.SSL_MODE_ENABLE_PARTIAL_WRITE)  # pyOpenSSL's; a write would stop at one record
        self._in = lib.BIO_new(lib.BIO_s_mem())
        self._out = lib.BIO_new(lib.BIO_s_mem())
        lib.SSL_set_bio(ssl, self._in, self._out)  # frees them with the connection
        if server_side:
            lib.SSL_set_accept_state(ssl)
        else:
            lib.SSL_set_connect_state(ssl)
            if server_name is not None:
                lib.SSL_set_tlsext_host_name(ssl, server_name.encode("ascii"))

    def feed(self, data: memoryview) -> None:
        """See `Engine`."""
        if len(data):
            self._alone = _NOT_ALONE
            self._feed(_from_buffer(data), len(data))

    def _feed(self, address: Any, size: int) -> None:  # noqa: ANN401  cffi
        if _bio_write(self._in, address, size) != size:
            raise MemoryError("no memory for what a peer sent")

    def lend(self, data: memoryview, size: int) -> None:
        """See `Engine`. A copy of bulk would be a tenth of all that it costs; one of little costs less than lending."""
        address = self._buffers.ciphertext.address(data)
        if size < _WORTH_LENDING or _bio_waiting(self._in, _NULL) > 0:
            if self._lent:
                self._read_from(lib.BIO_new(lib.BIO_s_mem()))
                self._lent = False
            self._alone = size if self._alone == 0 else _NOT_ALONE
            self._feed(address, size)
            return
        source = lib.BIO_new_mem_buf(address, size)
        if source == _NULL:
            raise MemoryError("no memory for what a peer sent")
        lib.BIO_set_mem_eof_return(source, -1)  # its end is not the connection's
        self._read_from(source)
        self._lent = True

    def _read_from(self, source: Any) -> None:  # noqa: ANN401  cffi
        lib.SSL_set_bio(self._ssl, source, self._out)  # frees the one before
        self._in = source

    def feed_eof(self) -> None:
        """See `Engine`."""
        self._eof = True

    def handshake(self) -> bool:
        """See `Engine`."""
        if self._done:
            return True
        self._raise_failure()
        result = lib.SSL_do_handshake(self._ssl)
        if result != 1:
            if lib.SSL_get_error(self._ssl, result) != lib.SSL_ERROR_WANT_READ:
                raise self._fail(self._explain())
            if self._eof:
                raise self._fail(partial(TlsTruncated, reasons.TRUNCATED_HANDSHAKE))
            return False
        if self.alpn != ALPN:
            raise self._fail(partial(TlsError, reasons.NO_ALPN))
        self._done = True
        return True

    def read_into(self, view: memoryview) -> int:
        """See `Engine`."""
        self._raise_failure()
        if not self._done:
            raise TlsError(reasons.UNFINISHED)
        ssl, room = self._ssl, len(view)
        address = self._buffers.plaintext.address(view)
        alone, self._alone = self._alone, _NOT_ALONE
        total: int = _ssl_read(ssl, address, room) if room else 0  # at most one record
        if total > 0:
            if total + RECORD_OVERHEAD == alone:
                self._alone = 0
                return total
            source = self._in
            # A look at what is left costs a fraction of a read that finds nothing. None is needed while that is, as far
            # as one can reckon, a whole record.
            left: int = _bio_waiting(source, _NULL)
            while total < room and left > 0:
                n: int = _ssl_read(ssl, address + total, room - total)
                if n <= 0:
                    self._stopped(n)
                    return total
                total += n
                left -= n + RECORD_OVERHEAD
                if left < _FULL_RECORD:
                    left = _bio_waiting(source, _NULL)
            if total < room:
                self._alone = 0
            return total
        if room:
            self._stopped(total)
            self._raise_failure()
        return 0

    @property
    def ended(self) -> bool:
        """See `Engine`."""
        return self._failed is not None

    def write(self, data: memoryview) -> None:
        """See `Engine`. In pieces that stay in the processor's cache on their way through the library."""
        if not self._done:
            raise TlsError(reasons.UNFINISHED)
        if self._closed:
            raise TlsError(reasons.WRITE_AFTER_CLOSE)
        size = len(data)
        if not size:
            return
        address = _from_buffer(data)
        while size > _PIECE:
            self._write(address, _PIECE)
            self._drain()
            address += _PIECE
            size -= _PIECE
        self._write(address, size)

    def pending_out(self) -> memoryview:
        """See `Engine`."""
        self._drain()
        buffer = self._buffer
        return memoryview(b"") if buffer is None else buffer.view[self._start : self._end]

    def sent(self, n: int) -> None:
        """See `Engine`."""
        self._start += n
        assert self._start <= self._end
        if self._start == self._end and self._buffer is not None:
            self._buffers.give(self._buffer)
            self._buffer = None
            self._start = self._end = 0

    def close(self) -> None:
        """See `Engine`."""
        if self._done and not self._closed:
            self._closed = True
            if lib.SSL_shutdown(self._ssl) < 0:
                lib.ERR_clear_error()

    @property
    def peer_chain(self) -> list[bytes]:
        """See `Engine`."""
        leaf = lib.SSL_get_peer_certificate(self._ssl)
        if leaf == ffi.NULL:
            return []
        chain = [certificate_der(leaf)]
        lib.X509_free(leaf)
        sent = lib.SSL_get_peer_cert_chain(self._ssl)
        if sent != ffi.NULL:
            others = [certificate_der(lib.sk_X509_value(sent, i)) for i in range(lib.sk_X509_num(sent))]
            chain += [der for der in others if der != chain[0]]  # a client's list begins with the leaf
        return chain

    @property
    def alpn(self) -> str | None:
        """See `Engine`."""
        name, length = ffi.new("unsigned char **"), ffi.new("unsigned int *")
        lib.SSL_get0_alpn_selected(self._ssl, name, length)
        return bytes(ffi.buffer(name[0], length[0])).decode("latin-1") if length[0] else None

    @property
    def cipher(self) -> str:
        """See `Engine`."""
        cipher = lib.SSL_get_current_cipher(self._ssl)
        return "" if cipher == ffi.NULL else ffi.string(lib.SSL_CIPHER_get_name(cipher)).decode()

    @property
    def version(self) -> str:
        """See `Engine`."""
        version: str = ffi.string(lib.SSL_get_version(self._ssl)).decode()
        return version

    def _write(self, address: Any, size: int) -> None:  # noqa: ANN401  cffi
        if _ssl_write(self._ssl, address, size) != size:
            raise self._fail(self._explain())

    def _drain(self) -> None:
        """Move what the library made behind what waits in the buffer."""
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffers.next
            n: int = _bio_read(self._out, buffer.address, buffer.size)
            if n <= 0:
                return
            self._buffer = self._buffers.take()
            self._end = n
        else:
            n = _bio_read(self._out, buffer.address + self._end, buffer.size - self._end)
            if n > 0:
                self._end += n
        while self._end == buffer.size:
            self._buffer = buffer = self._grown(buffer)
            n = _bio_read(self._out, buffer.address + self._end, buffer.size - self._end)
            self._end += max(n, 0)

    def _grown(self, buffer: _Buffer) -> _Buffer:
        """The buffer is full, because its owner writes while it cannot send: go on with a larger one."""
        larger = _Buffer(2 * buffer.size)
        waiting = self._end - self._start
        larger.view[:waiting] = buffer.view[self._start : self._end]
        self._buffers.give(buffer)
        self._start, self._end = 0, waiting
        return larger

    def _stopped(self, result: int) -> None:
        """Why `SSL_read` gave nothing: remember an end, so that it is told after the bytes before it."""
        error = lib.SSL_get_error(self._ssl, result)
        if error == lib.SSL_ERROR_WANT_READ:
            if self._eof:
                self._failed = partial(TlsTruncated, reasons.TRUNCATED)
        elif error == lib.SSL_ERROR_ZERO_RETURN:
            self._failed = TlsClosed
        else:
            self._failed = self._explain()

    def _explain(self) -> Callable[[], TlsError]:
        code = lib.ERR_get_error()
        lib.ERR_clear_error()  # what stays would be taken for the next connection's
        text = lib.ERR_reason_error_string(code) if code else ffi.NULL
        reason = "" if text == ffi.NULL else ffi.string(text).decode()
        verify = lib.SSL_get_verify_result(self._ssl)
        verify_text = ffi.string(lib.X509_verify_cert_error_string(verify)).decode()
        return partial(TlsError, reasons.explain(reason, verify, verify_text))

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise self._failed()

    def _fail(self, failure: Callable[[], Exception]) -> Exception:
        """Remember a failure without its traceback, which would tie the engine to itself until the collector comes."""
        self._failed = failure
        return failure()
