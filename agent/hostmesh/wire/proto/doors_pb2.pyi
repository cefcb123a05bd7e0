from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Opened(_message.Message):
    __slots__ = ("id", "number", "kinds")
    ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    id: int
    number: int
    kinds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[int] = ..., number: _Optional[int] = ..., kinds: _Optional[_Iterable[str]] = ...) -> None: ...

class Left(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class Supplied(_message.Message):
    __slots__ = ("id", "ipv6")
    ID_FIELD_NUMBER: _ClassVar[int]
    IPV6_FIELD_NUMBER: _ClassVar[int]
    id: int
    ipv6: bool
    def __init__(self, id: _Optional[int] = ..., ipv6: _Optional[bool] = ...) -> None: ...

class ToWorker(_message.Message):
    __slots__ = ("opened", "left", "supplied")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    SUPPLIED_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    left: Left
    supplied: Supplied
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., left: _Optional[_Union[Left, _Mapping]] = ..., supplied: _Optional[_Union[Supplied, _Mapping]] = ...) -> None: ...

class WantSockets(_message.Message):
    __slots__ = ("id", "ipv6", "count")
    ID_FIELD_NUMBER: _ClassVar[int]
    IPV6_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    id: int
    ipv6: bool
    count: int
    def __init__(self, id: _Optional[int] = ..., ipv6: _Optional[bool] = ..., count: _Optional[int] = ...) -> None: ...
