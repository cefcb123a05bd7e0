from hostmesh.wire.proto import worker_pb2 as _worker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class KeptListener(_message.Message):
    __slots__ = ("name", "descriptor")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    descriptor: int
    def __init__(self, name: _Optional[str] = ..., descriptor: _Optional[int] = ...) -> None: ...

class KeptWorker(_message.Message):
    __slots__ = ("pid", "control", "partial_frame", "last_report", "ready", "draining", "partial_report")
    PID_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FRAME_FIELD_NUMBER: _ClassVar[int]
    LAST_REPORT_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_REPORT_FIELD_NUMBER: _ClassVar[int]
    pid: int
    control: int
    partial_frame: bytes
    last_report: _worker_pb2.Report
    ready: bool
    draining: bool
    partial_report: _worker_pb2.Report
    def __init__(self, pid: _Optional[int] = ..., control: _Optional[int] = ..., partial_frame: _Optional[bytes] = ..., last_report: _Optional[_Union[_worker_pb2.Report, _Mapping]] = ..., ready: _Optional[bool] = ..., draining: _Optional[bool] = ..., partial_report: _Optional[_Union[_worker_pb2.Report, _Mapping]] = ...) -> None: ...

class Handover(_message.Message):
    __slots__ = ("listeners", "workers", "retired", "credentials", "worker_restarts", "synced", "namespaces", "addresses", "authorizations", "from_file")
    LISTENERS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    WORKER_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    SYNCED_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATIONS_FIELD_NUMBER: _ClassVar[int]
    FROM_FILE_FIELD_NUMBER: _ClassVar[int]
    listeners: _containers.RepeatedCompositeFieldContainer[KeptListener]
    workers: _containers.RepeatedCompositeFieldContainer[KeptWorker]
    retired: _worker_pb2.Report
    credentials: _containers.RepeatedCompositeFieldContainer[_worker_pb2.Credentials]
    worker_restarts: int
    synced: bool
    namespaces: _containers.RepeatedCompositeFieldContainer[KeptListener]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    authorizations: _containers.RepeatedScalarFieldContainer[str]
    from_file: bool
    def __init__(self, listeners: _Optional[_Iterable[_Union[KeptListener, _Mapping]]] = ..., workers: _Optional[_Iterable[_Union[KeptWorker, _Mapping]]] = ..., retired: _Optional[_Union[_worker_pb2.Report, _Mapping]] = ..., credentials: _Optional[_Iterable[_Union[_worker_pb2.Credentials, _Mapping]]] = ..., worker_restarts: _Optional[int] = ..., synced: _Optional[bool] = ..., namespaces: _Optional[_Iterable[_Union[KeptListener, _Mapping]]] = ..., addresses: _Optional[_Iterable[str]] = ..., authorizations: _Optional[_Iterable[str]] = ..., from_file: _Optional[bool] = ...) -> None: ...
