from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChallengeRequest(_message.Message):
    __slots__ = ("node", "csr")
    NODE_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    node: str
    csr: str
    def __init__(self, node: _Optional[str] = ..., csr: _Optional[str] = ...) -> None: ...

class ChallengeResponse(_message.Message):
    __slots__ = ("challenge", "seconds", "now")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    challenge: bytes
    seconds: int
    now: float
    def __init__(self, challenge: _Optional[bytes] = ..., seconds: _Optional[int] = ..., now: _Optional[float] = ...) -> None: ...

class HostProof(_message.Message):
    __slots__ = ("challenge", "signatures")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    challenge: bytes
    signatures: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, challenge: _Optional[bytes] = ..., signatures: _Optional[_Iterable[bytes]] = ...) -> None: ...

class EnrolRequest(_message.Message):
    __slots__ = ("node", "token", "csr", "proof")
    NODE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    node: str
    token: str
    csr: str
    proof: HostProof
    def __init__(self, node: _Optional[str] = ..., token: _Optional[str] = ..., csr: _Optional[str] = ..., proof: _Optional[_Union[HostProof, _Mapping]] = ...) -> None: ...

class EnrolResponse(_message.Message):
    __slots__ = ("cert_chain",)
    CERT_CHAIN_FIELD_NUMBER: _ClassVar[int]
    cert_chain: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cert_chain: _Optional[_Iterable[str]] = ...) -> None: ...
