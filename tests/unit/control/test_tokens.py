"""Rules of join tokens: once, in time, by their node, and only hashes on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule
from tests.support.records import NAME, records, unwritable

from hostmesh.control.records import RecordsBroken
from hostmesh.control.tokens import (
    MAX_TTL,
    REMEMBER,
    Bearer,
    TokenRefusal,
    TokenRefused,
    TokenStore,
)

NOW = 1_800_000_000.0
KEY = "SHA256:" + "a" * 43


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> TokenStore:
    return TokenStore(records(tmp_path), clock)


def refusal(store: TokenStore, node: str, token: str) -> TokenRefusal:
    with pytest.raises(TokenRefused) as caught:
        store.redeem(node, token)
    assert str(caught.value).startswith(caught.value.reason.value + ": ")
    return caught.value.reason


def test_a_token_admits_once(store: TokenStore) -> None:
    """The second use is refused as a replay."""
    token = store.mint("mesh2")
    assert store.redeem("mesh2", token).node == "mesh2"
    assert refusal(store, "mesh2", token) is TokenRefusal.REPLAYED


def test_a_token_runs_out(store: TokenStore, clock: Clock) -> None:
    """It is good to the last second of its life and not in the next."""
    first, second = store.mint("mesh2", 60), store.mint("mesh2", 60)
    clock.now += 59.9
    store.redeem("mesh2", first)
    clock.now += 0.1
    assert refusal(store, "mesh2", second) is TokenRefusal.EXPIRED


def test_a_foreign_node_cannot_use_or_burn_a_token(store: TokenStore) -> None:
    """The refusal does not say for which node it was."""
    token = store.mint("mesh2")
    with pytest.raises(TokenRefused, match="another node than 'mesh3'") as caught:
        store.redeem("mesh3", token)
    assert "mesh2" not in str(caught.value)
    store.redeem("mesh2", token)


@pytest.mark.parametrize(
    "change", [str.upper, lambda t: t + "x", lambda t: t[:-1], lambda t: t.partition(".")[0], lambda _: ""]
)
def test_a_changed_token_is_unknown(store: TokenStore, change: object) -> None:
    """Knowing a token's public id is worth nothing."""
    assert callable(change)
    token = store.mint("mesh2")
    assert refusal(store, "mesh2", change(token)) is TokenRefusal.UNKNOWN
    store.redeem("mesh2", token)


def test_restarts_forget_nothing(store: TokenStore, tmp_path: Path, clock: Clock) -> None:
    """Open tokens stay open, used ones used."""
    open_one, used = store.mint("mesh2"), store.mint("mesh2")
    store.redeem("mesh2", used)
    again = TokenStore(records(tmp_path), clock)
    assert refusal(again, "mesh2", used) is TokenRefusal.REPLAYED
    again.redeem("mesh2", open_one)


def test_the_file_holds_hashes_only_and_is_private(store: TokenStore, tmp_path: Path) -> None:
    """Whoever reads a backup cannot join."""
    token = store.mint("mesh2")
    file = tmp_path / NAME
    assert token.partition(".")[2] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert all(record.hash == "" for record in store.records())


def test_a_use_that_cannot_be_recorded_does_not_count(store: TokenStore, tmp_path: Path) -> None:
    """Disk full: nobody is admitted, and the token is still good afterwards."""
    token = store.mint("mesh2")
    with unwritable(tmp_path), pytest.raises(OSError, match=NAME):
        store.redeem("mesh2", token)
    store.redeem("mesh2", token)


@pytest.mark.parametrize(("node", "ttl"), [("a/b", 60), ("", 60), ("mesh2", 0), ("mesh2", MAX_TTL + 1), ("-x", 60)])
def test_what_cannot_be_minted(store: TokenStore, node: str, ttl: float) -> None:
    """Names that are no node's, and lifetimes that are no token's."""
    with pytest.raises(ValueError, match=r"node name|join token lives"):
        store.mint(node, ttl)


def test_old_tokens_are_forgotten(store: TokenStore, clock: Clock) -> None:
    """The file does not grow for ever."""
    token = store.mint("mesh2", 60)
    clock.now += REMEMBER + 61
    store.mint("mesh3")
    assert [record.node for record in store.records()] == ["mesh3"]
    assert refusal(store, "mesh2", token) is TokenRefusal.UNKNOWN


def test_a_revoked_token_is_refused(store: TokenStore) -> None:
    """An unknown id is reported; a used token stays a used one."""
    token, used = store.mint("mesh2"), store.mint("mesh2")
    store.redeem("mesh2", used)
    states = [record.state(NOW) for key in (token, used) if (record := store.revoke(key.partition(".")[0]))]
    assert states == ["revoked", "used"]
    assert refusal(store, "mesh2", token) is TokenRefusal.REVOKED
    assert refusal(store, "mesh2", used) is TokenRefusal.REPLAYED
    assert store.revoke("nonsense") is None


@pytest.mark.parametrize(
    ("bearer", "expected"),
    [
        (Bearer("192.0.2.7", frozenset({KEY})), None),
        (Bearer("2001:db8::7", frozenset({KEY, "x"})), None),
        (Bearer("192.0.3.7", frozenset({KEY})), TokenRefusal.WRONG_ADDRESS),
        (Bearer("", frozenset({KEY})), TokenRefusal.WRONG_ADDRESS),
        (Bearer("192.0.2.7"), TokenRefusal.WRONG_HOST_KEY),
        (Bearer("192.0.2.7", frozenset({"SHA256:x"})), TokenRefusal.WRONG_HOST_KEY),
    ],
)
def test_a_bound_token_is_good_at_its_place_only(
    store: TokenStore, tmp_path: Path, clock: Clock, bearer: Bearer, expected: TokenRefusal | None
) -> None:
    """Network and machine, also after a restart; refusals do not burn it."""
    token = store.mint("mesh2", host_key=KEY, addresses=["192.0.2.0/24", "2001:db8::/32"])
    again = TokenStore(records(tmp_path), clock)
    if expected is not None:
        with pytest.raises(TokenRefused) as caught:
            again.redeem("mesh2", token, bearer)
        assert caught.value.reason is expected
    again.redeem("mesh2", token, Bearer("192.0.2.1", frozenset({KEY})))


@pytest.mark.parametrize(("key", "address"), [("SHA256:short", "192.0.2.0/24"), ("", "192.0.2.0/33"), ("", "mesh2")])
def test_a_token_is_not_bound_to_nonsense(store: TokenStore, key: str, address: str) -> None:
    """It would admit nobody, and nobody would know why."""
    with pytest.raises(ValueError, match=r"fingerprint|does not appear to be"):
        store.mint("mesh2", host_key=key, addresses=[address])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": 1}', "\x00"])
def test_a_damaged_token_is_an_error_that_names_its_place(tmp_path: Path, content: str) -> None:
    """Passing over it would forget whether it was used."""
    kept = records(tmp_path)
    kept.commit({"tokens/0123456789abcdef": content})
    with pytest.raises(RecordsBroken, match=r"records.jsonl: a join token cannot be read"):
        TokenStore(kept).redeem("mesh2", "0123456789abcdef.x")


class Tokens(RuleBasedStateMachine):
    """Against a model: no sequence of mints, uses, waits and restarts admits a token twice, late or elsewhere."""

    minted = Bundle("minted")

    @initialize()
    def start(self) -> None:
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name)
        self.clock = Clock()
        self.store = TokenStore(records(self.path), self.clock)
        self.open: dict[str, tuple[str, float]] = {}

    @rule(target=minted, node=st.sampled_from(["a", "b"]), ttl=st.integers(1, 100))
    def mint(self, node: str, ttl: int) -> str:
        token = self.store.mint(node, ttl)
        self.open[token] = (node, self.clock.now + ttl)
        return token

    @rule(token=minted, node=st.sampled_from(["a", "b"]))
    def redeem(self, token: str, node: str) -> None:
        bound, expires = self.open.get(token, ("", 0.0))
        try:
            self.store.redeem(node, token)
            admitted = True
        except TokenRefused:
            admitted = False
        assert admitted == (bound == node and self.clock.now < expires)
        if admitted:
            del self.open[token]

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def restart(self) -> None:
        self.store = TokenStore(records(self.path), self.clock)

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.directory.cleanup()


TestTokens = Tokens.TestCase
TestTokens.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
