"""A worker's end of the link to main: applies what main sends, sends what the proxy has to say. Bounded both ways."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from hostmesh.daemon.background import Background
from hostmesh.daemon.frames import MAX_TO_WORKER, FrameReader, frame
from hostmesh.daemon.messages import read_credentials, read_local_workload, read_trust
from hostmesh.daemon.reporter import Reporter
from hostmesh.model.address import parse_ip
from hostmesh.model.identity import Identity
from hostmesh.model.workload import Workload
from hostmesh.proxy.server import ProxyServer
from hostmesh.state.store import MeshState
from hostmesh.telemetry.logs import parse_levels, replace_levels
from hostmesh.telemetry.records import LogRecord, Record
from hostmesh.transport.loop import BROKEN, Loop
from hostmesh.transport.timers import Timer
from hostmesh.wire.proto import worker_pb2 as pb
from hostmesh.xds.address_codec import decode_address
from hostmesh.xds.policy_codec import decode_authorization

MAX_WAITING = 8 << 20
"""Bytes that may wait for main to read; log records beyond it are dropped and counted, everything else is small."""

MAX_USED = 4096
"""Names in one message about what is in use."""

LOG_DELAY = 0.05
"""Seconds that a record may wait for others."""

LOG_BATCH = 512
"""Records that do not wait any longer."""

ORPHAN_DEADLINE = 5.0
"""Seconds that open connections get when main is gone."""

LAST_WORDS_TIMEOUT = 5.0
"""Seconds that an ending worker waits for main to read its last records and numbers."""

MAX_LOG_BATCH = 4 << 20
"""Bytes of records in one message, well below the largest that main takes: part of them is what peers say."""

_READ = 1 << 16


class MainLink:
    """The control socket of a worker. It owns the socket; when main is gone it stops the loop.

    Args:
        control: this end of the pair.
        loop: the worker's.
        state: what main tells is applied to it, bit by bit between the events of the loop.
        plain_logs: main writes plain lines only.
        settled: called after each part of the state that will stay.
    """

    def __init__(
        self,
        control: socket.socket,
        loop: Loop,
        state: MeshState,
        *,
        plain_logs: bool = False,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._control = control
        self._loop = loop
        self._state = state
        self._frames = FrameReader(MAX_TO_WORKER)
        self._out = bytearray()
        self._flush_due = False
        self._records: list[Record] = []
        self._records_due: Timer | None = None
        self._dropped = 0
        self._plain_logs = plain_logs
        self._settled = settled
        self._listening = Background(loop, self._listen(), time.monotonic)
        self._main_gone = False
        self._server: ProxyServer | None = None
        self._reporter: Reporter | None = None
        self._listeners: list[tuple[str, socket.socket]] = []
        self._serving: Callable[[], None] | None = None

    def begin(
        self,
        server: ProxyServer,
        listeners: list[tuple[str, socket.socket]],
        heartbeat: float,
        serving: Callable[[], None] | None = None,
    ) -> None:
        """Listen to main and beat every `heartbeat` seconds; when main says so, listeners open (`serving`)."""
        self._server = server
        self._reporter = Reporter(self._loop, server, self._send, lambda: len(self._out))
        self._listeners = listeners
        self._serving = serving
        self._control.setblocking(False)
        self._loop.register(self._control.fileno(), self._on_event)
        self._beat(heartbeat, 0)
        self._listening.start()

    def want_credentials(self, identity: Identity) -> None:
        """A connection waits for this identity's certificate."""
        self._send(pb.FromWorker(want_credentials=pb.WantCredentials(identity=str(identity))))

    def want_name(self, hostname: str) -> None:
        """A connection waits for this hostname's addresses."""
        self._send(pb.FromWorker(want_name=pb.WantName(hostname=hostname)))

    def want_address(self, name: str) -> None:
        """A connection waits to hear whose an address is."""
        self._send(pb.FromWorker(want_address=pb.WantAddress(name=name)))

    def used_addresses(self, names: Sequence[str]) -> None:
        """Connections went to these."""
        for start in range(0, len(names), MAX_USED):
            self._send(pb.FromWorker(used_addresses=pb.UsedAddresses(names=names[start : start + MAX_USED])))

    def log(self, records: Sequence[Record]) -> None:
        """Hand records on, many at once: a message for each connection would cost more than the connection's bytes."""
        self._records += records
        if len(self._records) >= LOG_BATCH:
            self._hand_over_records()
        elif self._records_due is None:
            self._records_due = self._loop.call_later(LOG_DELAY, self._hand_over_records)

    def _hand_over_records(self) -> None:
        """Records are dropped and counted if main does not keep up."""
        if self._records_due is not None:
            self._records_due.cancel()
            self._records_due = None
        records, self._records = self._records, []
        if len(self._out) > MAX_WAITING:
            self._dropped += len(records)
            return
        if self._dropped:
            lost = LogRecord(
                "error", "proxy", "log records dropped, main did not read them", (("records", self._dropped),)
            )
            records, self._dropped = [lost, *records], 0
        if records:
            for batch in _encoded(records, plain=self._plain_logs):
                self._send(pb.FromWorker(logs=pb.LogBatch(records=batch)))

    def _beat(self, interval: float, count: int) -> None:
        self._send(pb.FromWorker(heartbeat=pb.Heartbeat(turn=count)))
        self._loop.call_later(interval, lambda: self._beat(interval, count + 1))

    def _on_event(self, mask: int) -> None:
        if self._out:
            self._flush()
        self._listening.go()
        if mask & BROKEN:
            self._orphaned()

    def _listen(self) -> Iterator[bool]:
        """Read and apply, a step at a time, as `Background` has it done."""
        while not self._main_gone:
            try:
                data = self._control.recv(_READ)
            except BlockingIOError:
                yield False
                continue
            except OSError:
                data = b""
            if not data:
                self._orphaned()
                return
            for body in self._frames.feed(data):
                try:
                    for _ in self._apply(pb.ToWorker.FromString(body)):
                        yield True
                except Exception as error:  # noqa: BLE001  as for the loop's handlers: what comes after it counts too
                    self._loop.on_error(self._control.fileno(), error)
                yield True

    def _orphaned(self) -> None:
        """Main is gone: accept nothing more, let what is open finish, then end."""
        assert self._server is not None
        if not self._main_gone:
            self._main_gone = True
            self._loop.unregister(self._control.fileno())
            self._server.drain(ORPHAN_DEADLINE, self._end)

    def _end(self) -> None:
        """Nothing is open any more: what is logged in this turn goes out before the last numbers, and they are last."""
        self._loop.at_turn_end(lambda: self._loop.at_turn_end(self._finish))

    def _finish(self) -> None:
        assert self._reporter is not None
        self._hand_over_records()
        self._reporter.everything()
        self._control.settimeout(LAST_WORDS_TIMEOUT)
        self._flush()
        self._hang_up()
        self._loop.stop()

    def _hang_up(self) -> None:
        """Say that this was all, and take what main still sends: a socket closed over it would cut our last words."""
        with suppress(OSError):  # main is gone, or does not answer in time
            self._control.shutdown(socket.SHUT_WR)
            while self._control.recv(_READ):
                pass

    def _apply(self, message: pb.ToWorker) -> Iterator[None]:
        """Yields where bytes may flow before it goes on."""
        assert self._server is not None
        assert self._reporter is not None
        kind = message.WhichOneof("message")
        if kind == "state":
            yield from self._apply_state(message.state)
            self._settled()
            # A push that takes long must not delay what its policies forbid: they are complete with its first part.
            if not message.state.more or message.state.authorizations or message.state.removed_authorizations:
                self._server.state_changed()
            self._server.addresses_known(message.state.learned, message.state.refused)
        elif kind == "local_workloads":
            local = message.local_workloads
            self._server.set_local_workloads([read_local_workload(w) for w in local.workloads], local.host_ports)
        elif kind == "credentials":
            self._apply_credentials(message.credentials)
        elif kind == "trust":
            self._server.set_trust(read_trust(message.trust))
        elif kind == "name":
            name = message.name
            addresses = tuple(parse_ip(text) for text in name.addresses)
            self._server.put_name(name.hostname, addresses, name.lifetime_seconds, name.reason)
        elif kind == "drain":
            self._drain(message.drain.deadline_seconds)
        elif kind == "report":
            self._reporter.begin(message.report.id)
        elif kind == "log_level":
            replace_levels(parse_levels(message.log_level.level))
        elif kind == "serve":
            self._serve()

    def _drain(self, deadline: float) -> None:
        """Stop accepting, but not before the connection is taken for which the kernel woke this worker and no other."""
        server = self._server
        assert server is not None
        self._listeners = []
        self._loop.at_turn_end(lambda: server.drain(deadline, self._end))

    def _serve(self) -> None:
        assert self._server is not None
        for kind, listener in self._listeners:
            self._server.set_listener(kind, listener)
        self._listeners = []
        if self._serving is not None:
            self._serving()
        self._send(pb.FromWorker(ready=pb.Ready()))

    def _apply_state(self, update: pb.StateUpdate) -> Iterator[None]:
        if update.on_demand:
            self._state.follow_on_demand()
        for name in update.forgotten:
            self._state.forget(name)
        for encoded in update.authorizations:
            self._state.upsert_authorization(decode_authorization(encoded))
            yield
        for key in update.removed_authorizations:
            self._state.remove_authorization(key)
            yield
        for encoded in update.addresses:
            address = decode_address(encoded)
            if isinstance(address, Workload):
                self._state.upsert_workload(address)
            else:
                self._state.upsert_service(address)
            yield
        for key in update.removed_addresses:
            self._state.remove_address(key)
            yield
        for name in update.learned:
            self._state.learn(name)

    def _apply_credentials(self, update: pb.CredentialsUpdate) -> None:
        assert self._server is not None
        for message in update.credentials:
            self._server.put_credentials(read_credentials(message))
        for identity in update.forgotten:
            self._server.forget(Identity.parse(identity))
        for identity, reason in update.failed.items():
            self._server.credentials_failed(Identity.parse(identity), reason)

    def _send(self, message: pb.FromWorker) -> None:
        if self._main_gone:
            return
        self._out += frame(message)
        if not self._flush_due:
            self._flush_due = True
            self._loop.at_turn_end(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        try:
            while self._out:
                sent = self._control.send(self._out)
                del self._out[:sent]
        except BlockingIOError:
            self._loop.watch_writable(self._control.fileno())
        except OSError:  # main is gone, or did not read when it mattered
            self._out.clear()


def _encoded(records: Sequence[Record], *, plain: bool) -> Iterator[bytes]:
    """One document for all, unless peers have made them so long that main would not take it.

    Plain ones are lines but for the time: escaping them for main to undo it costs more than all else about them.
    """
    if plain:
        lines = [f"{one.level}\t{one.target}\t{one.text()}".replace("\n", " ") for one in records]
        encoded = "\n".join(lines).encode(errors="backslashreplace")
    else:
        encoded = json.dumps([(one.level, one.target, one.message, one.fields) for one in records]).encode()
    if len(encoded) <= MAX_LOG_BATCH or len(records) == 1:
        yield encoded
    else:
        half = len(records) // 2
        yield from _encoded(records[:half], plain=plain)
        yield from _encoded(records[half:], plain=plain)
