from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    INGRESS: _ClassVar[Direction]
    EGRESS: _ClassVar[Direction]

class Protocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTOCOL_UNSPECIFIED: _ClassVar[Protocol]
    TCP: _ClassVar[Protocol]
    UDP: _ClassVar[Protocol]
    SCTP: _ClassVar[Protocol]

class Operator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPERATOR_UNSPECIFIED: _ClassVar[Operator]
    IN: _ClassVar[Operator]
    NOT_IN: _ClassVar[Operator]
    EXISTS: _ClassVar[Operator]
    DOES_NOT_EXIST: _ClassVar[Operator]
DIRECTION_UNSPECIFIED: Direction
INGRESS: Direction
EGRESS: Direction
PROTOCOL_UNSPECIFIED: Protocol
TCP: Protocol
UDP: Protocol
SCTP: Protocol
OPERATOR_UNSPECIFIED: Operator
IN: Operator
NOT_IN: Operator
EXISTS: Operator
DOES_NOT_EXIST: Operator

class Resource(_message.Message):
    __slots__ = ("policy", "member", "namespace")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    policy: NetworkPolicy
    member: Member
    namespace: Namespace
    def __init__(self, policy: _Optional[_Union[NetworkPolicy, _Mapping]] = ..., member: _Optional[_Union[Member, _Mapping]] = ..., namespace: _Optional[_Union[Namespace, _Mapping]] = ...) -> None: ...

class NetworkPolicy(_message.Message):
    __slots__ = ("name", "namespace", "selector", "isolates", "ingress", "egress")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    ISOLATES_FIELD_NUMBER: _ClassVar[int]
    INGRESS_FIELD_NUMBER: _ClassVar[int]
    EGRESS_FIELD_NUMBER: _ClassVar[int]
    name: str
    namespace: str
    selector: Selector
    isolates: _containers.RepeatedScalarFieldContainer[Direction]
    ingress: _containers.RepeatedCompositeFieldContainer[Rule]
    egress: _containers.RepeatedCompositeFieldContainer[Rule]
    def __init__(self, name: _Optional[str] = ..., namespace: _Optional[str] = ..., selector: _Optional[_Union[Selector, _Mapping]] = ..., isolates: _Optional[_Iterable[_Union[Direction, str]]] = ..., ingress: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ..., egress: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ...) -> None: ...

class Selector(_message.Message):
    __slots__ = ("requirements",)
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    requirements: _containers.RepeatedCompositeFieldContainer[Requirement]
    def __init__(self, requirements: _Optional[_Iterable[_Union[Requirement, _Mapping]]] = ...) -> None: ...

class Requirement(_message.Message):
    __slots__ = ("key", "operator", "values")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    key: str
    operator: Operator
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, key: _Optional[str] = ..., operator: _Optional[_Union[Operator, str]] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class Rule(_message.Message):
    __slots__ = ("peers", "ports")
    PEERS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    peers: _containers.RepeatedCompositeFieldContainer[Peer]
    ports: _containers.RepeatedCompositeFieldContainer[Port]
    def __init__(self, peers: _Optional[_Iterable[_Union[Peer, _Mapping]]] = ..., ports: _Optional[_Iterable[_Union[Port, _Mapping]]] = ...) -> None: ...

class Peer(_message.Message):
    __slots__ = ("block", "workloads")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    block: Block
    workloads: Workloads
    def __init__(self, block: _Optional[_Union[Block, _Mapping]] = ..., workloads: _Optional[_Union[Workloads, _Mapping]] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("cidr", "excluded")
    CIDR_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    cidr: str
    excluded: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cidr: _Optional[str] = ..., excluded: _Optional[_Iterable[str]] = ...) -> None: ...

class Workloads(_message.Message):
    __slots__ = ("workloads", "namespaces")
    WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    NAMESPACES_FIELD_NUMBER: _ClassVar[int]
    workloads: Selector
    namespaces: Selector
    def __init__(self, workloads: _Optional[_Union[Selector, _Mapping]] = ..., namespaces: _Optional[_Union[Selector, _Mapping]] = ...) -> None: ...

class Port(_message.Message):
    __slots__ = ("protocol", "first", "last", "name")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    protocol: Protocol
    first: int
    last: int
    name: str
    def __init__(self, protocol: _Optional[_Union[Protocol, str]] = ..., first: _Optional[int] = ..., last: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("uid", "name", "namespace", "labels", "addresses", "ports", "meshed", "service_account")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class PortsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    UID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    MESHED_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    uid: str
    name: str
    namespace: str
    labels: _containers.ScalarMap[str, str]
    addresses: _containers.RepeatedScalarFieldContainer[bytes]
    ports: _containers.ScalarMap[str, int]
    meshed: bool
    service_account: str
    def __init__(self, uid: _Optional[str] = ..., name: _Optional[str] = ..., namespace: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., addresses: _Optional[_Iterable[bytes]] = ..., ports: _Optional[_Mapping[str, int]] = ..., meshed: _Optional[bool] = ..., service_account: _Optional[str] = ...) -> None: ...

class Namespace(_message.Message):
    __slots__ = ("name", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...
