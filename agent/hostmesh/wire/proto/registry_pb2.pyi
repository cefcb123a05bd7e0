from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkloadHealth(_message.Message):
    __slots__ = ("workload", "healthy", "reason")
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    workload: str
    healthy: bool
    reason: str
    def __init__(self, workload: _Optional[str] = ..., healthy: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("workloads", "leaving")
    WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    workloads: _containers.RepeatedCompositeFieldContainer[WorkloadHealth]
    leaving: bool
    def __init__(self, workloads: _Optional[_Iterable[_Union[WorkloadHealth, _Mapping]]] = ..., leaving: _Optional[bool] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("lease_seconds", "now")
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    lease_seconds: float
    now: float
    def __init__(self, lease_seconds: _Optional[float] = ..., now: _Optional[float] = ...) -> None: ...
