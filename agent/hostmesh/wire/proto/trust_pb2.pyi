from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class TrustBundle(_message.Message):
    __slots__ = ("trust_domain", "roots", "crls", "issuers", "revoked_identities", "signer")
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    CRLS_FIELD_NUMBER: _ClassVar[int]
    ISSUERS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    trust_domain: str
    roots: _containers.RepeatedScalarFieldContainer[bytes]
    crls: _containers.RepeatedScalarFieldContainer[bytes]
    issuers: _containers.RepeatedScalarFieldContainer[bytes]
    revoked_identities: _containers.RepeatedScalarFieldContainer[str]
    signer: bytes
    def __init__(self, trust_domain: _Optional[str] = ..., roots: _Optional[_Iterable[bytes]] = ..., crls: _Optional[_Iterable[bytes]] = ..., issuers: _Optional[_Iterable[bytes]] = ..., revoked_identities: _Optional[_Iterable[str]] = ..., signer: _Optional[bytes] = ...) -> None: ...
