from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LocalWorkload(_message.Message):
    __slots__ = ("number", "name", "namespace", "identity", "unit", "in_namespace", "registry_only", "default")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    IN_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_ONLY_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    number: int
    name: str
    namespace: str
    identity: str
    unit: str
    in_namespace: bool
    registry_only: bool
    default: bool
    def __init__(self, number: _Optional[int] = ..., name: _Optional[str] = ..., namespace: _Optional[str] = ..., identity: _Optional[str] = ..., unit: _Optional[str] = ..., in_namespace: _Optional[bool] = ..., registry_only: _Optional[bool] = ..., default: _Optional[bool] = ...) -> None: ...

class Credentials(_message.Message):
    __slots__ = ("identity", "key_pem", "chain_pem", "roots_pem", "not_before", "not_after", "serial")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    KEY_PEM_FIELD_NUMBER: _ClassVar[int]
    CHAIN_PEM_FIELD_NUMBER: _ClassVar[int]
    ROOTS_PEM_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    identity: str
    key_pem: bytes
    chain_pem: bytes
    roots_pem: bytes
    not_before: float
    not_after: float
    serial: str
    def __init__(self, identity: _Optional[str] = ..., key_pem: _Optional[bytes] = ..., chain_pem: _Optional[bytes] = ..., roots_pem: _Optional[bytes] = ..., not_before: _Optional[float] = ..., not_after: _Optional[float] = ..., serial: _Optional[str] = ...) -> None: ...

class Start(_message.Message):
    __slots__ = ("listeners", "config_json", "alone", "plain_logs")
    LISTENERS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    ALONE_FIELD_NUMBER: _ClassVar[int]
    PLAIN_LOGS_FIELD_NUMBER: _ClassVar[int]
    listeners: _containers.RepeatedScalarFieldContainer[str]
    config_json: str
    alone: bool
    plain_logs: bool
    def __init__(self, listeners: _Optional[_Iterable[str]] = ..., config_json: _Optional[str] = ..., alone: _Optional[bool] = ..., plain_logs: _Optional[bool] = ...) -> None: ...

class StateUpdate(_message.Message):
    __slots__ = ("addresses", "removed_addresses", "authorizations", "removed_authorizations", "more", "on_demand", "learned", "forgotten", "refused")
    class RefusedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATIONS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_AUTHORIZATIONS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_FIELD_NUMBER: _ClassVar[int]
    LEARNED_FIELD_NUMBER: _ClassVar[int]
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    addresses: _containers.RepeatedScalarFieldContainer[bytes]
    removed_addresses: _containers.RepeatedScalarFieldContainer[str]
    authorizations: _containers.RepeatedScalarFieldContainer[bytes]
    removed_authorizations: _containers.RepeatedScalarFieldContainer[str]
    more: bool
    on_demand: bool
    learned: _containers.RepeatedScalarFieldContainer[str]
    forgotten: _containers.RepeatedScalarFieldContainer[str]
    refused: _containers.ScalarMap[str, str]
    def __init__(self, addresses: _Optional[_Iterable[bytes]] = ..., removed_addresses: _Optional[_Iterable[str]] = ..., authorizations: _Optional[_Iterable[bytes]] = ..., removed_authorizations: _Optional[_Iterable[str]] = ..., more: _Optional[bool] = ..., on_demand: _Optional[bool] = ..., learned: _Optional[_Iterable[str]] = ..., forgotten: _Optional[_Iterable[str]] = ..., refused: _Optional[_Mapping[str, str]] = ...) -> None: ...

class LocalWorkloads(_message.Message):
    __slots__ = ("workloads", "host_ports")
    WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    HOST_PORTS_FIELD_NUMBER: _ClassVar[int]
    workloads: _containers.RepeatedCompositeFieldContainer[LocalWorkload]
    host_ports: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, workloads: _Optional[_Iterable[_Union[LocalWorkload, _Mapping]]] = ..., host_ports: _Optional[_Iterable[int]] = ...) -> None: ...

class CredentialsUpdate(_message.Message):
    __slots__ = ("credentials", "forgotten", "failed")
    class FailedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    credentials: _containers.RepeatedCompositeFieldContainer[Credentials]
    forgotten: _containers.RepeatedScalarFieldContainer[str]
    failed: _containers.ScalarMap[str, str]
    def __init__(self, credentials: _Optional[_Iterable[_Union[Credentials, _Mapping]]] = ..., forgotten: _Optional[_Iterable[str]] = ..., failed: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("deadline_seconds",)
    DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    deadline_seconds: float
    def __init__(self, deadline_seconds: _Optional[float] = ...) -> None: ...

class Serve(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Revoked(_message.Message):
    __slots__ = ("issuer", "serials")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    SERIALS_FIELD_NUMBER: _ClassVar[int]
    issuer: bytes
    serials: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, issuer: _Optional[bytes] = ..., serials: _Optional[_Iterable[bytes]] = ...) -> None: ...

class TrustUpdate(_message.Message):
    __slots__ = ("trust_domain", "roots_pem", "revoked", "revoked_identities")
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ROOTS_PEM_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    REVOKED_IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    trust_domain: str
    roots_pem: bytes
    revoked: _containers.RepeatedCompositeFieldContainer[Revoked]
    revoked_identities: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, trust_domain: _Optional[str] = ..., roots_pem: _Optional[bytes] = ..., revoked: _Optional[_Iterable[_Union[Revoked, _Mapping]]] = ..., revoked_identities: _Optional[_Iterable[str]] = ...) -> None: ...

class NameAnswer(_message.Message):
    __slots__ = ("hostname", "addresses", "lifetime_seconds", "reason")
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    lifetime_seconds: float
    reason: str
    def __init__(self, hostname: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., lifetime_seconds: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class SetLogLevel(_message.Message):
    __slots__ = ("level",)
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: str
    def __init__(self, level: _Optional[str] = ...) -> None: ...

class ToWorker(_message.Message):
    __slots__ = ("start", "state", "local_workloads", "credentials", "drain", "report", "log_level", "serve", "trust", "name")
    START_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_WORKLOADS_FIELD_NUMBER: _ClassVar[int]
    CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    LOG_LEVEL_FIELD_NUMBER: _ClassVar[int]
    SERVE_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    start: Start
    state: StateUpdate
    local_workloads: LocalWorkloads
    credentials: CredentialsUpdate
    drain: Drain
    report: ReportRequest
    log_level: SetLogLevel
    serve: Serve
    trust: TrustUpdate
    name: NameAnswer
    def __init__(self, start: _Optional[_Union[Start, _Mapping]] = ..., state: _Optional[_Union[StateUpdate, _Mapping]] = ..., local_workloads: _Optional[_Union[LocalWorkloads, _Mapping]] = ..., credentials: _Optional[_Union[CredentialsUpdate, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., report: _Optional[_Union[ReportRequest, _Mapping]] = ..., log_level: _Optional[_Union[SetLogLevel, _Mapping]] = ..., serve: _Optional[_Union[Serve, _Mapping]] = ..., trust: _Optional[_Union[TrustUpdate, _Mapping]] = ..., name: _Optional[_Union[NameAnswer, _Mapping]] = ...) -> None: ...

class Series(_message.Message):
    __slots__ = ("metric", "labels", "value")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    metric: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    value: int
    def __init__(self, metric: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., value: _Optional[int] = ...) -> None: ...

class OpenConnection(_message.Message):
    __slots__ = ("direction", "source", "original_destination", "actual_destination", "protocol", "workload")
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_DESTINATION_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_DESTINATION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    direction: str
    source: str
    original_destination: str
    actual_destination: str
    protocol: str
    workload: str
    def __init__(self, direction: _Optional[str] = ..., source: _Optional[str] = ..., original_destination: _Optional[str] = ..., actual_destination: _Optional[str] = ..., protocol: _Optional[str] = ..., workload: _Optional[str] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("id", "counters", "gauges", "connections", "more")
    ID_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    GAUGES_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    id: int
    counters: _containers.RepeatedCompositeFieldContainer[Series]
    gauges: _containers.RepeatedCompositeFieldContainer[Series]
    connections: _containers.RepeatedCompositeFieldContainer[OpenConnection]
    more: bool
    def __init__(self, id: _Optional[int] = ..., counters: _Optional[_Iterable[_Union[Series, _Mapping]]] = ..., gauges: _Optional[_Iterable[_Union[Series, _Mapping]]] = ..., connections: _Optional[_Iterable[_Union[OpenConnection, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class LogBatch(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: bytes
    def __init__(self, records: _Optional[bytes] = ...) -> None: ...

class WantCredentials(_message.Message):
    __slots__ = ("identity",)
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    identity: str
    def __init__(self, identity: _Optional[str] = ...) -> None: ...

class WantName(_message.Message):
    __slots__ = ("hostname",)
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    def __init__(self, hostname: _Optional[str] = ...) -> None: ...

class WantAddress(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class UsedAddresses(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("turn",)
    TURN_FIELD_NUMBER: _ClassVar[int]
    turn: int
    def __init__(self, turn: _Optional[int] = ...) -> None: ...

class FromWorker(_message.Message):
    __slots__ = ("ready", "heartbeat", "report", "logs", "want_credentials", "want_name", "want_address", "used_addresses")
    READY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    WANT_CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    WANT_NAME_FIELD_NUMBER: _ClassVar[int]
    WANT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    USED_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    ready: Ready
    heartbeat: Heartbeat
    report: Report
    logs: LogBatch
    want_credentials: WantCredentials
    want_name: WantName
    want_address: WantAddress
    used_addresses: UsedAddresses
    def __init__(self, ready: _Optional[_Union[Ready, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ..., logs: _Optional[_Union[LogBatch, _Mapping]] = ..., want_credentials: _Optional[_Union[WantCredentials, _Mapping]] = ..., want_name: _Optional[_Union[WantName, _Mapping]] = ..., want_address: _Optional[_Union[WantAddress, _Mapping]] = ..., used_addresses: _Optional[_Union[UsedAddresses, _Mapping]] = ...) -> None: ...
