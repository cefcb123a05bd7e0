"""Header blocks as peers send them (RFC 7541), with every size bounded.

One walk over the representations; the dynamic table is the `hpack` library's. It only holds something until the peer
has acknowledged our HEADER_TABLE_SIZE of 0.
"""

from __future__ import annotations

from hpack.exceptions import HPACKDecodingError
from hpack.table import HeaderTable

from hostmesh.wire.http2 import huffman
from hostmesh.wire.http2.errors import ErrorCode, Http2Error
from hostmesh.wire.http2.events import Field

_STATIC: tuple[Field, ...] = ((b"", b""), *HeaderTable.STATIC_TABLE)
_STATIC_SIZE = len(HeaderTable.STATIC_TABLE)
_DEFAULT_TABLE_SIZE = 4096
_ENTRY_OVERHEAD = 32
_MAX_SHIFT = 28
"""Five bytes of continuation: larger integers serve nobody but who wants to burn our time."""


def _broken(reason: str) -> Http2Error:
    return Http2Error(ErrorCode.COMPRESSION_ERROR, reason)


class Decoder:
    """The receiving half of a connection's header compression. Not usable after an error."""

    __slots__ = ("_limit", "_max_table", "_table", "_table_size")

    def __init__(self, max_list_size: int) -> None:
        self._limit = max_list_size
        self._max_table = _DEFAULT_TABLE_SIZE
        self._table = HeaderTable()
        self._table_size = self._table.maxsize

    def acknowledged(self) -> None:
        """The peer has seen our table size of 0: its next block must be stateless."""
        self._max_table = 0

    def decode(self, block: bytes) -> list[Field]:
        """The fields of one whole block, in order, as they came.

        Raises:
            Http2Error: COMPRESSION_ERROR; or ENHANCE_YOUR_CALM above the header list limit.
        """
        position = 0
        size = len(block)
        left = self._limit
        fields: list[Field] = []
        try:
            if not block or block[0] < 0x20 or block[0] >= 0x40:
                self._check_table()
            else:
                position = self._resize(block)
            while position < size:
                first = block[position]
                if first >= 0x80:
                    index = first & 0x7F
                    position += 1
                    if index == 0x7F:
                        index, position = _integer(block, position, index)
                    field = _STATIC[index] if 0 < index <= _STATIC_SIZE else self._dynamic(index)
                else:
                    field, position = self._literal(block, position, size)
                left -= len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
                if left < 0:
                    raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, f"a header list above {self._limit} bytes")
                fields.append(field)
        except IndexError:
            raise _broken("truncated header block") from None
        return fields

    def _literal(self, block: bytes, position: int, size: int) -> tuple[Field, int]:
        first = block[position]
        position += 1
        indexed = first & 0x40
        if not indexed and first & 0x20:
            raise _broken("table size update inside a header block")
        mask = 0x3F if indexed else 0x0F
        index = first & mask
        if index:
            if index == mask:
                index, position = _integer(block, position, index)
            name = _STATIC[index][0] if index <= _STATIC_SIZE else self._dynamic(index)[0]
        else:
            name, position = _string(block, position, size)
        length = block[position]
        if length < 0x7F:
            position += 1
            end = position + length
            value = block[position:end]
            if end > size:
                raise _broken("truncated string")
        else:
            value, end = _string(block, position, size)
        if indexed:
            self._table.add(name, value)
        return (name, value), end

    def _dynamic(self, index: int) -> Field:
        try:
            return self._table.get_by_index(index)
        except HPACKDecodingError:
            raise _broken(f"no header table entry {index}") from None

    def _resize(self, block: bytes) -> int:
        position = 0
        while position < len(block) and 0x20 <= block[position] < 0x40:
            table_size = block[position] & 0x1F
            position += 1
            if table_size == 0x1F:
                table_size, position = _integer(block, position, table_size)
            if table_size > self._max_table:
                raise _broken(f"header table of {table_size} bytes, {self._max_table} permitted")
            self._table.maxsize = self._table_size = table_size
        self._check_table()
        return position

    def _check_table(self) -> None:
        if self._table_size > self._max_table:
            raise _broken("the header table was not reduced after our settings were acknowledged")


def _integer(block: bytes, position: int, value: int) -> tuple[int, int]:
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > _MAX_SHIFT:
            raise _broken("an integer of more than five bytes")


def _string(block: bytes, position: int, size: int) -> tuple[bytes, int]:
    length = block[position]
    position += 1
    coded = length & 0x80
    length &= 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, length)
    end = position + length
    if end > size:
        raise _broken("truncated string")
    text = block[position:end]
    if coded:
        try:
            text = huffman.decode(text)
        except huffman.BadHuffman as error:
            raise _broken(str(error)) from None
    return text, end
