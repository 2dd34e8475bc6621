"""One participant's data channels: aiortc's SCTP association, behind limits that it does not have itself.

`GuardedSctp` checks every packet before aiortc parses it, bounds what one packet, one message and one association may
hold or cost, and ends the association when the peer breaks a rule. Ending it leaves the DTLS transport alone: its
keys still carry the media. Nothing here decides who may send what; `core.room` does.

On the path of a data message: `dtls.EngineDtls` → here → `associations.Associations` → core. And of one sent: core →
`associations.Associations.send` → here → `dtls.EngineDtls`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from struct import unpack_from
from typing import TYPE_CHECKING, Final

from aiortc import rtcsctptransport as sctp
from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import InboundStream, RTCSctpCapabilities, RTCSctpTransport

from d4e_sfu.core.boundary import DataKind, Taken
from d4e_sfu.drivers.inbox import TokenBucket
from d4e_sfu.drivers.reassembly import Reassembly, Violation

if TYPE_CHECKING:
    from d4e_sfu.drivers.dtls import EngineDtls

log = logging.getLogger(__name__)

_TSN_MODULO = 1 << 32
# Bytes. RFC 8832 §5.2 has one; pion, and with it the SDK for Go, sends three zeros after it.
_LONGEST_ACK: Final = 4

# Why an association ended: the closed set of a metric's label.
ENDS: Final = (
    "closed",  # by us, with its transport
    "peer",  # the client aborted it or shut it down
    "timeout",  # the client never answered
    "slow",  # the client does not read what it must not miss
    "malformed",  # a packet that no correct implementation sends
    "restart",  # INIT on an established association, or INITs without end
    "undelivered",  # more waiting for its missing fragments than the window that we advertise allows
    "message_size",
    "gaps",
    "streams",
    "channels",
    "internal",  # our fault
)


@dataclass(frozen=True, slots=True)
class DataLimits:
    """What one association may hold and cost. Over a limit marked (drop) the packet is lost, else the association."""

    message_size: int = 65_536  # bytes; what we advertise as max-message-size (RFC 8841 §6)
    window: int = 512 << 10  # bytes advertised (a_rwnd)
    undelivered: int = 1 << 20  # bytes held for missing fragments; honest senders stay below `window`
    undelivered_chunks: int = 4096
    misordered: int = 1024  # (drop) TSNs acknowledged beyond the cumulative one
    gaps: int = 512  # holes between them
    streams: int = 64
    channels: int = 16
    label: int = 256  # bytes of label and protocol in a DATA_CHANNEL_OPEN
    chunks_per_packet: int = 64  # 20 bytes is the shortest DATA chunk: 58 in one packet
    chunks_per_second: float = 4000  # (drop)
    delivery: float = 2  # what passing a message on to one other costs its sender, in chunks: 2000 a second in all
    inits: int = 16
    lossy_backlog: int = 64 << 10  # bytes; beyond it a lossy message is not queued
    lossy_messages: int = 256
    reliable_backlog: int = 1 << 20  # bytes; beyond it the client is too slow for what it must not miss
    reliable_messages: int = 2048
    burst: int = 16  # messages handed to SCTP in one turn of the event loop
    burst_bytes: int = 32 << 10


class GuardedSctp(RTCSctpTransport):
    """aiortc's association with limits, reassembly in linear time, and an outbox that is bounded.

    `on_open(kind)`, `on_message(kind, payload)` and `on_end(reason)` are called from within; `nudge` asks for a call
    of `pump` soon. `clock` is monotonic seconds.
    """

    def __init__(
        self,
        dtls: EngineDtls,
        *,
        limits: DataLimits,
        on_open: Callable[[DataKind], None],
        on_message: Callable[[DataKind, bytes], Taken],
        on_end: Callable[[str], None],
        nudge: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(dtls)
        self._limits = limits
        self._on_open = on_open
        self._on_message = on_message
        self._on_end = on_end
        self._nudge = nudge
        self._clock = clock
        self._advertised_rwnd = limits.window
        self._bucket = TokenBucket(limits.chunks_per_second, limits.chunks_per_second)
        self._kinds: dict[DataKind, RTCDataChannel] = {}
        self._outbox: list[tuple[RTCDataChannel, int, bytes]] = []
        self._outbox_bytes = 0
        self._inits = 0
        self._aborted_by_peer = False
        self.ended: str | None = None
        self.counters = {"packets": 0, "packets_dropped": 0, "received": 0, "sent": 0, "send_refused": 0}

    # --- what our side calls ---------------------------------------------------------------------------------------

    async def open(self, *, remote_port: int, max_message_size: int) -> None:
        """Send our INIT; both sides do (RFC 8841 §9.3)."""
        await self.start(RTCSctpCapabilities(maxMessageSize=max_message_size), remote_port)

    def offer_channels(self) -> None:
        """Ours, on which we send: each opens when the client acknowledges it (RFC 8832 §5.2)."""
        for kind in DataKind:
            lossy = kind is DataKind.LOSSY
            RTCDataChannel(
                self,
                RTCDataChannelParameters(label=kind.value, ordered=not lossy, maxRetransmits=0 if lossy else None),
            )

    def send(self, kind: DataKind, payload: bytes) -> bool:
        """Queue a message; False when its channel is not open or the client reads too slowly.

        A lossy message is then dropped. A reliable one must not be, so its association ends (`slow`).
        """
        limits = self._limits
        channel = self._kinds.get(kind)
        too_big = 0 < self._remote_max_message_size < len(payload)
        if self.ended or channel is None or channel.readyState != "open" or too_big:
            self.counters["send_refused"] += 1
            return False
        handed_over = sum(len(payload) for _, _, payload in self._data_channel_queue)
        unsent = len(self._outbound_queue) * sctp.USERDATA_MAX_LENGTH
        backlog = self._outbox_bytes + handed_over + unsent + self._flight_size
        messages = len(self._outbox) + len(self._sent_queue)
        if kind is DataKind.LOSSY and (backlog > limits.lossy_backlog or messages > limits.lossy_messages):
            self.counters["send_refused"] += 1
            return False
        if backlog > limits.reliable_backlog or messages > limits.reliable_messages:
            self.counters["send_refused"] += 1
            self.end("slow")
            return False
        # RFC 8831 §6.6: an empty message is one zero byte under its own protocol id.
        item = (channel, sctp.WEBRTC_BINARY, payload) if payload else (channel, sctp.WEBRTC_BINARY_EMPTY, b"\0")
        self._outbox.append(item)
        self._outbox_bytes += len(item[2])
        self._nudge()
        return True

    async def pump(self) -> None:
        """Hand a few messages from the outbox to SCTP, if its own queue is empty."""
        if self.ended or not self._outbox or self._data_channel_queue or self._outbound_queue:
            return
        handed_over = messages = 0
        while self._outbox and messages < self._limits.burst and handed_over < self._limits.burst_bytes:
            channel, protocol, payload = self._outbox.pop(0)
            self._outbox_bytes -= len(payload)
            handed_over += len(payload)
            messages += 1
            if channel.readyState == "open":
                channel._addBufferedAmount(len(payload))
                self._data_channel_queue.append((channel, protocol, payload))
                self.counters["sent"] += 1
        await self._data_channel_flush()
        if self._outbox and not self._outbound_queue:
            self._nudge()

    def end(self, reason: str) -> None:
        """Abort the association, free what it holds, and say so once. DTLS stays up."""
        if self.ended:
            return
        self.ended = reason
        if reason != "closed":
            abort = sctp.serialize_packet(
                self._local_port, self._remote_port or 0, self._remote_verification_tag, sctp.AbortChunk()
            )
            self.transport.send_record(abort)
        super()._set_state(self.State.CLOSED)
        self.transport._unregister_data_receiver(self)
        self._kinds.clear()
        self._outbox.clear()
        self._inbound_streams.clear()
        self._sack_misordered.clear()
        self._data_channel_queue.clear()
        self._outbound_queue.clear()
        self._sent_queue.clear()
        self._outbox_bytes = 0
        self._on_end(reason)

    def debug_state(self) -> dict[str, object]:
        return {
            "state": self._association_state.name,
            "ended": self.ended,
            "channels": sorted(channel.label for channel in self._data_channels.values()),
            "undelivered": sum(self._held()),
            "misordered": len(self._sack_misordered),
            "outbox_bytes": self._outbox_bytes,
            "flight_bytes": self._flight_size,
            "congestion_window": self._cwnd,
            **self.counters,
        }

    @property
    def transport(self) -> EngineDtls:
        transport: EngineDtls = super().transport  # type: ignore[assignment]  # the one given to __init__
        return transport

    # --- from the network ------------------------------------------------------------------------------------------

    async def _handle_data(self, data: bytes) -> None:
        if self.ended:
            return
        self.counters["packets"] += 1
        try:
            chunks = inspect(data, self._limits, next_tsn=self._local_tsn)
            if not self._bucket.take(chunks, now=self._clock()):
                self.counters["packets_dropped"] += 1
                return
            await super()._handle_data(data)
            await self.pump()
        except Exception as error:
            self._fault(error)

    async def _receive_chunk(self, chunk: sctp.Chunk) -> None:
        if self.ended:
            return  # by an earlier chunk of the same packet
        match chunk:
            case sctp.InitChunk():
                self._inits += 1
                if self._association_state is self.State.ESTABLISHED:
                    if chunk.initiate_tag == self._remote_verification_tag:
                        return  # late copy; aiortc would set its counters back (RFC 9260 §5.2.2)
                    raise Violation("restart")
                if self._inits > self._limits.inits:
                    raise Violation("restart")
                if not (chunk.initiate_tag and chunk.outbound_streams and chunk.inbound_streams):
                    raise Violation("malformed")  # RFC 9260 §3.3.2
            case sctp.SackChunk():
                acknowledged = (chunk.cumulative_tsn - self._last_sacked_tsn) % _TSN_MODULO
                if acknowledged >= 1 << 31:
                    return  # an old one, overtaken
                if acknowledged >= (self._local_tsn - self._last_sacked_tsn) % _TSN_MODULO:
                    raise Violation("malformed")  # of what was never sent
            case sctp.AbortChunk():
                self._aborted_by_peer = True
            case sctp.ShutdownChunk():
                raise Violation("peer")  # WebRTC has no half-closed association
            case sctp.ForwardTsnChunk() if self._last_received_tsn is None:
                raise Violation("malformed")
        await super()._receive_chunk(chunk)

    async def _receive_data_chunk(self, chunk: sctp.DataChunk) -> None:
        limits = self._limits
        if self._last_received_tsn is None:
            raise Violation("malformed")
        self._sack_needed = True
        ahead = (chunk.tsn - self._last_received_tsn) % _TSN_MODULO
        if 1 < ahead < 1 << 31 and (ahead > 0xFFFF or len(self._sack_misordered) >= limits.misordered):
            return  # beyond what a SACK can tell of, or we hold: not received, the peer sends it again
        if self._mark_received(chunk.tsn):
            return
        stream = self._get_inbound_stream(chunk.stream_id)
        stream.add_chunk(chunk)
        held, chunks = self._held()
        if held > limits.undelivered or chunks > limits.undelivered_chunks:
            raise Violation("undelivered")
        for message in stream.pop_messages():
            await self._receive(*message)
            if self.ended:
                return
        self._advertised_rwnd = max(0, limits.window - self._held()[0])
        await self._reset_deferred_streams()

    async def _receive_forward_tsn_chunk(self, chunk: sctp.ForwardTsnChunk) -> None:
        await super()._receive_forward_tsn_chunk(chunk)
        self._advertised_rwnd = max(0, self._limits.window - self._held()[0])

    def _mark_received(self, tsn: int) -> bool:
        """True for a duplicate. Unlike aiortc's this does not sort, and so is right where TSNs wrap around."""
        last = self._last_received_tsn
        assert last is not None
        if (tsn - last - 1) % _TSN_MODULO >= 1 << 31 or tsn in self._sack_misordered:
            self._sack_duplicates.append(tsn)
            return True
        self._sack_misordered.add(tsn)
        while (last + 1) % _TSN_MODULO in self._sack_misordered:
            last = (last + 1) % _TSN_MODULO
            self._sack_misordered.discard(last)
        self._last_received_tsn = last
        return False

    def _get_inbound_stream(self, stream_id: int) -> InboundStream:
        if stream_id not in self._inbound_streams:
            if len(self._inbound_streams) >= self._limits.streams:
                raise Violation("streams")
            self._inbound_streams[stream_id] = Reassembly(self._limits.message_size)
        return self._inbound_streams[stream_id]

    async def _data_channel_receive(self, stream_id: int, pp_id: int, data: bytes) -> None:
        """A whole message. Ours are binary; text is passed on as its bytes, once it has proved to be UTF-8."""
        if pp_id == sctp.WEBRTC_DCEP:
            await self._receive_dcep(stream_id, data)
            return
        channel = self._data_channels.get(stream_id)
        if channel is None:
            return  # RFC 8832 §6: data may overtake nothing but a channel that has just been closed
        if pp_id in (sctp.WEBRTC_STRING_EMPTY, sctp.WEBRTC_BINARY_EMPTY):
            data = b""
        elif pp_id == sctp.WEBRTC_STRING:
            data.decode()
        elif pp_id != sctp.WEBRTC_BINARY:
            return
        for kind, known in self._kinds.items():
            if known is channel:
                self.counters["received"] += 1
                # On credit: what this packet led to is paid for by those after it, which are dropped until it is. SCTP
                # takes that for a narrow path and slows down; a lossy sender loses.
                taken = self._on_message(kind, data)
                pause = taken.pause * self._limits.chunks_per_second
                self._bucket.charge(self._limits.delivery * taken.deliveries + pause)
                return

    async def _receive_dcep(self, stream_id: int, data: bytes) -> None:
        """RFC 8832 §5. Every channel is accepted up to the limit; only the two labels that we know are passed on."""
        opened = data[:1] == bytes([sctp.DATA_CHANNEL_OPEN])
        if opened:
            if stream_id in self._data_channels:
                raise Violation("malformed")
            if len(self._data_channels) >= self._limits.channels:
                raise Violation("channels")
            label, protocol = unpack_from("!HH", data, 8)
            if label + protocol > self._limits.label or len(data) != 12 + label + protocol:
                raise Violation("malformed")
        elif (
            data[:1] != bytes([sctp.DATA_CHANNEL_ACK])
            or len(data) > _LONGEST_ACK
            or stream_id not in self._data_channels
        ):
            raise Violation("malformed")
        await super()._data_channel_receive(stream_id, sctp.WEBRTC_DCEP, data)
        channel = self._data_channels.get(stream_id)
        if channel is None or self.ended or (not opened and channel in self._kinds.values()):
            return  # acknowledged once already
        for kind in DataKind:
            if channel.label == kind.value:
                self._kinds[kind] = channel
                self._on_open(kind)

    # --- to the network, and aiortc's own tasks --------------------------------------------------------------------

    async def _send_chunk(self, chunk: sctp.Chunk) -> None:
        if self.ended:
            return  # a timer's task that was already under way
        try:
            await super()._send_chunk(chunk)
        except ConnectionError:
            pass  # DTLS has ended; it ends us in a moment

    async def _send_sack(self) -> None:
        """Like aiortc's, but cheap behind a hole, right where TSNs wrap around, and never too long to send."""
        last = self._last_received_tsn
        assert last is not None
        gaps: list[tuple[int, int]] = []
        start = stop = 0
        for offset in sorted([(tsn - last) % _TSN_MODULO for tsn in self._sack_misordered]):
            if not start or offset != stop + 1:
                if start:
                    gaps.append((start, stop))
                start = offset
            stop = offset
        if start:
            gaps.append((start, stop))
        if len(gaps) > self._limits.gaps:
            raise Violation("gaps")
        sack = sctp.SackChunk()
        sack.cumulative_tsn = last
        sack.advertised_rwnd = self._advertised_rwnd
        sack.gaps = gaps[:200]  # RFC 9260 §3.3.4: as many as fit into one packet
        sack.duplicates = self._sack_duplicates[:50]
        self._sack_duplicates.clear()
        self._sack_needed = False
        await self._send_chunk(sack)

    async def _transmit(self) -> None:
        try:
            if not self.ended:
                await super()._transmit()
        except Exception as error:
            self._fault(error)

    async def _data_channel_flush(self) -> None:
        try:
            if not self.ended:
                await super()._data_channel_flush()
        except Exception as error:
            self._fault(error)

    def _set_state(self, state: RTCSctpTransport.State) -> None:
        if state is self.State.CLOSED:
            self.end("peer" if self._aborted_by_peer else "timeout")
        elif not self.ended:
            super()._set_state(state)

    def _fault(self, error: Exception) -> None:
        """The peer is to blame for what its packet made aiortc raise, and it alone bears it."""
        reason = error.reason if isinstance(error, Violation) else "malformed"
        log.debug("data channels: %s", reason, exc_info=not isinstance(error, Violation))
        self.end(reason)

    def _held(self) -> tuple[int, int]:
        """Bytes and chunks that wait for others, over all streams."""
        size = chunks = 0
        for stream in self._inbound_streams.values():
            assert isinstance(stream, Reassembly)
            size += stream.size
            chunks += stream.chunks
        return size, chunks


# Fixed length of each chunk's header and body (RFC 9260 §3.3, RFC 3758 §3.2, RFC 6525 §3.1).
_SHORTEST: Final = {0: 17, 1: 20, 2: 20, 3: 16, 4: 4, 5: 4, 6: 4, 7: 8, 9: 4, 10: 4, 130: 4, 192: 8}
# Chunks that end in parameters (type, length, value), and where those start.
_PARAMETERS: Final = {1: 20, 2: 20, 4: 4, 5: 4, 6: 4, 9: 4, 130: 4}
_SACK, _INIT, _RECONFIG, _FORWARD_TSN = 3, 1, 130, 192


def inspect(packet: bytes, limits: DataLimits, *, next_tsn: int) -> int:
    """Check lengths and counts in a packet before anything loops over them; returns the number of its chunks.

    aiortc trusts them: a parameter of length 0 makes it loop for ever, a SACK with wide gap blocks makes it count
    through billions. `next_tsn` is the first of ours that the peer cannot have seen. Raises `Violation`.
    """
    count = 0
    position = sctp.SCTP_COMMON_HEADER_LENGTH
    if len(packet) < position + sctp.SCTP_CHUNK_HEADER_LENGTH:
        raise Violation("malformed")
    first = packet[position]
    while position < len(packet):
        if len(packet) - position < sctp.SCTP_CHUNK_HEADER_LENGTH:
            raise Violation("malformed")
        kind, length = packet[position], unpack_from("!H", packet, position + 2)[0]
        end = position + length
        count += 1
        if length < _SHORTEST.get(kind, 4) or end > len(packet) or count > limits.chunks_per_packet:
            raise Violation("malformed")
        if kind in _PARAMETERS:
            _inspect_parameters(packet, position + _PARAMETERS[kind], end, most=2 if kind == _RECONFIG else 32)
        elif kind == _SACK:
            _inspect_sack(packet, position, length, next_tsn)
        elif kind == _FORWARD_TSN and length % 4:
            raise Violation("malformed")
        position = end + -length % 4
    if first == _INIT and count > 1:
        raise Violation("malformed")  # RFC 9260 §6.10: INIT travels alone
    return count


def _inspect_parameters(packet: bytes, position: int, end: int, *, most: int) -> None:
    for _ in range(most):
        if end - position < 4:
            return
        length = unpack_from("!H", packet, position + 2)[0]
        if length < 4 or position + length > end:
            raise Violation("malformed")
        position += length + -length % 4
    if position < end:
        raise Violation("malformed")  # RFC 6525 §3.1: at most two in a RE-CONFIG


def _inspect_sack(packet: bytes, position: int, length: int, next_tsn: int) -> None:
    cumulative, _, gaps, duplicates = unpack_from("!LLHH", packet, position + 4)
    outstanding = (next_tsn - 1 - cumulative) % _TSN_MODULO
    if 16 + 4 * (gaps + duplicates) > length:
        raise Violation("malformed")
    before = 0
    for index in range(gaps):
        start, stop = unpack_from("!HH", packet, position + 16 + 4 * index)
        # RFC 9260 §3.3.4: ascending offsets from the cumulative TSN, not overlapping, of chunks that were sent.
        if not before < start <= stop <= outstanding:
            raise Violation("malformed")
        before = stop
