from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkloadHealth(_message.Message):
    __slots__ = ("workload", "status", "reason")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[WorkloadHealth.Status]
        HEALTHY: _ClassVar[WorkloadHealth.Status]
        UNHEALTHY: _ClassVar[WorkloadHealth.Status]
    UNKNOWN: WorkloadHealth.Status
    HEALTHY: WorkloadHealth.Status
    UNHEALTHY: WorkloadHealth.Status
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    workload: str
    status: WorkloadHealth.Status
    reason: str
    def __init__(self, workload: _Optional[str] = ..., status: _Optional[_Union[WorkloadHealth.Status, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("workloads",)
    WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    workloads: _containers.RepeatedCompositeFieldContainer[WorkloadHealth]
    def __init__(self, workloads: _Optional[_Iterable[_Union[WorkloadHealth, _Mapping]]] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("lease_seconds", "now")
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    lease_seconds: float
    now: float
    def __init__(self, lease_seconds: _Optional[float] = ..., now: _Optional[float] = ...) -> None: ...
