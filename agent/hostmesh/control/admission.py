"""Who becomes a node: whoever brings a good token, or proves an SSH host key that is registered for the node."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from hostmesh.control.challenges import Asked, ChallengeRefusal, Challenges
from hostmesh.control.nodes import NodeRegistry
from hostmesh.control.tokens import Bearer, TokenRefusal, TokenRefused, TokenStore
from hostmesh.wire.host_proof import NAMESPACE, Statement
from hostmesh.wire.ssh_key import SshPublicKey
from hostmesh.wire.sshsig import BadSignature, signer, verify

MAX_SIGNATURES = 8


class KeyRefusal(Enum):
    """Why a host key does not admit: these names are what users and the audit log see."""

    NODE_UNKNOWN = "NODE_UNKNOWN"
    WRONG_KEY = "HOST_KEY_WRONG"
    BAD_SIGNATURE = "HOST_KEY_BAD_SIGNATURE"
    MISSING = "PROOF_MISSING"


class Refused(Exception):
    """The caller does not become a node. The text begins with the reason's name and says what to do next."""

    def __init__(self, reason: KeyRefusal | ChallengeRefusal | TokenRefusal, text: str) -> None:
        super().__init__(f"{reason.value}: {text}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Proof:
    """An answered challenge; `signatures` are SSHSIG blobs."""

    challenge: bytes
    signatures: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What a would-be node brings. `asked` is what its challenge must be bound to; `address` is its IP."""

    asked: Asked
    address: str
    token: str
    proof: Proof | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """By which token and key, empty if there was none. `learned` are keys that the token made the node's."""

    token: str = ""
    host_key: str = ""
    learned: tuple[SshPublicKey, ...] = ()


class Admission:
    """Decides, and uses up what admits: on disk before the caller signs anything.

    Args:
        trust_domain: of the mesh.
        tokens: the one way in.
        nodes: the other.
        challenges: what proofs answer.
    """

    def __init__(self, trust_domain: str, tokens: TokenStore, nodes: NodeRegistry, challenges: Challenges) -> None:
        self._trust_domain = trust_domain
        self._tokens = tokens
        self._nodes = nodes
        self._challenges = challenges

    def challenge(self, asked: Asked) -> bytes:
        """For whoever wants to prove a key."""
        return self._challenges.issue(asked)

    def admit(self, request: Request) -> Admitted:
        """Admit or refuse.

        Raises:
            Refused: with the reason.
            OSError: the use of the token could not be recorded; it is still good.
        """
        if request.proof is None:
            if not request.token:
                text = "the request brings neither a join token nor a proof of a host key"
                raise Refused(KeyRefusal.MISSING, text)
            return self._by_token(request)
        try:
            admitted = self._by_host_key(request.asked, request.proof)
        except Refused:
            if not request.token:
                raise
            return self._by_token(request)
        return replace(admitted, token=self._use_up(request))

    def _use_up(self, request: Request) -> str:
        """No open token is left behind where a key has admitted; its id if there was one."""
        if not request.token:
            return ""
        try:
            return self._tokens.redeem(request.asked.node, request.token, Bearer(request.address)).id
        except TokenRefused:
            return ""

    def _by_token(self, request: Request) -> Admitted:
        proven = self._proven(request.asked, request.proof) if request.proof is not None else ()
        bearer = Bearer(request.address, frozenset(key.fingerprint for key in proven))
        node = request.asked.node
        try:
            record = self._tokens.redeem(node, request.token, bearer)
        except TokenRefused as error:
            raise Refused(error.reason, error.text) from error
        if request.proof is not None and proven:
            self._challenges.use_up(request.proof.challenge)
        return Admitted(token=record.id, learned=self._learn(node, proven))

    def _learn(self, node: str, proven: tuple[SshPublicKey, ...]) -> tuple[SshPublicKey, ...]:
        """A node that an operator registered keeps the keys that he gave it."""
        known = self._nodes.get(node)
        if not proven or (known is not None and known.source == "operator"):
            return ()
        try:
            self._nodes.add(node, proven, replace=True, source="token")
        except ValueError:  # a cloned host key: the token is good, the key identifies nobody
            return ()
        return proven

    def _by_host_key(self, asked: Asked, proof: Proof) -> Admitted:
        record = self._nodes.get(asked.node)
        if record is None:
            raise Refused(
                KeyRefusal.NODE_UNKNOWN,
                f"no host key is registered for node {asked.node!r}; register one with `hostmesh node add --name "
                f"{asked.node} --host-key FILE` on the control plane, or enrol it with a join token",
            )
        brought = {signer_of(blob): blob for blob in proof.signatures[:MAX_SIGNATURES]}
        key = next((key for key in record.keys if key in brought), None)
        if key is None:
            shown = ", ".join(sorted(key.fingerprint for key in brought if key is not None)) or "none"
            raise Refused(
                KeyRefusal.WRONG_KEY,
                f"node {asked.node!r} is registered with {', '.join(key.fingerprint for key in record.keys)}, and this "
                f"host shows {shown}; if it was installed anew, run the playbook or `hostmesh node add --replace`",
            )
        self._judge(asked, proof, brought[key])
        self._challenges.use_up(proof.challenge)
        return Admitted(host_key=key.fingerprint)

    def _proven(self, asked: Asked, proof: Proof) -> tuple[SshPublicKey, ...]:
        return tuple(self._judge(asked, proof, blob) for blob in proof.signatures[:MAX_SIGNATURES])

    def _judge(self, asked: Asked, proof: Proof, blob: bytes) -> SshPublicKey:
        """The signature first: who cannot sign learns nothing about challenges."""
        try:
            statement = Statement(self._trust_domain, asked.node, asked.request_hash, proof.challenge)
            key = verify(blob, NAMESPACE, statement.encode())
        except ValueError as error:
            raise Refused(
                KeyRefusal.BAD_SIGNATURE,
                f"the proof of node {asked.node!r} does not hold: {error}; if the host's and the control plane's trust "
                "domains differ, set the same one",
            ) from error
        refusal = self._challenges.refusal(proof.challenge, asked)
        if refusal is not None:
            raise Refused(refusal, _CHALLENGE_TEXTS[refusal])
        return key


_CHALLENGE_TEXTS = {
    ChallengeRefusal.FOREIGN: "the challenge was not given to this node on this connection for this request; ask again",
    ChallengeRefusal.EXPIRED: "the challenge was answered too late; ask again",
    ChallengeRefusal.REPLAYED: "the challenge has been answered already; ask again",
}


def signer_of(blob: bytes) -> SshPublicKey | None:
    """Whose signature it claims to be; None if it is no signature."""
    try:
        return signer(blob)
    except BadSignature:
        return None
