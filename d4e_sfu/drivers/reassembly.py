"""Fragments of SCTP messages of one stream put back together (RFC 9260 §6.9), with a cost per chunk that is constant.

Takes the place of aiortc's `InboundStream`, which walks all waiting fragments at every new one: a message without an
end, or a stream with holes, then costs the square of its length. Not concerned with acknowledgements or with what a
message means. On the path of a data message: `datachannel.GuardedSctp` → here → `datachannel` again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from aiortc.rtcsctptransport import (
    SCTP_DATA_FIRST_FRAG,
    SCTP_DATA_LAST_FRAG,
    SCTP_DATA_UNORDERED,
    DataChunk,
    InboundStream,
)
from aiortc.utils import uint16_add, uint16_gt, uint32_gte

_TSN_MODULO = 1 << 32


class Violation(Exception):  # noqa: N818  # of a rule; what the RFCs call it
    """The peer broke a rule or a limit of ours. `reason` is from a closed set: it becomes a metric's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class _Run:
    """Fragments with consecutive TSNs of one message."""

    first: int
    last: int
    begins: bool  # holds the message's first fragment
    ends: bool  # holds its last
    size: int
    fragments: deque[DataChunk]

    @property
    def whole(self) -> bool:
        return self.begins and self.ends


class Reassembly(InboundStream):
    """One inbound stream. `size` and `chunks` are what it holds and has not delivered."""

    def __init__(self, max_message_size: int) -> None:
        super().__init__()
        self._max_message_size = max_message_size
        self._by_first: dict[int, _Run] = {}
        self._by_last: dict[int, _Run] = {}
        self._unordered: deque[_Run] = deque()  # whole
        self._ordered: dict[int, _Run] = {}  # whole, by stream sequence number, waiting for their turn
        self._searched = 0  # the sequence number up to which nothing older can be waiting
        self.size = 0
        self.chunks = 0

    def add_chunk(self, chunk: DataChunk) -> None:
        """Take a chunk whose TSN has not been seen. Raises `Violation` for a message over the limit."""
        run = _Run(
            first=chunk.tsn,
            last=chunk.tsn,
            begins=bool(chunk.flags & SCTP_DATA_FIRST_FRAG),
            ends=bool(chunk.flags & SCTP_DATA_LAST_FRAG),
            size=len(chunk.user_data),
            fragments=deque([chunk]),
        )
        self.size += run.size
        self.chunks += 1
        before = None if run.begins else self._by_last.get((chunk.tsn - 1) % _TSN_MODULO)
        if before is not None and not before.ends:
            self._forget(before)
            run = self._join(before, run)
        after = None if run.ends else self._by_first.get((chunk.tsn + 1) % _TSN_MODULO)
        if after is not None and not after.begins:
            self._forget(after)
            run = self._join(run, after)
        if run.size > self._max_message_size:
            raise Violation("message_size")
        if not run.whole:
            self._by_first[run.first] = self._by_last[run.last] = run
        elif run.fragments[0].flags & SCTP_DATA_UNORDERED:
            self._unordered.append(run)
        elif run.fragments[0].stream_seq in self._ordered:
            raise Violation("malformed")  # two messages with one sequence number
        else:
            self._ordered[run.fragments[0].stream_seq] = run

    def pop_messages(self) -> Iterator[tuple[int, int, bytes]]:
        """Deliver what may be delivered: (stream id, payload protocol id, message)."""
        while self._unordered:
            yield self._deliver(self._unordered.popleft())
        if self._searched != self.sequence_number:
            # FORWARD TSN moved on past messages that are here (RFC 3758 §3.6: they are delivered, not dropped).
            passed = [number for number in self._ordered if uint16_gt(self.sequence_number, number)]
            for number in sorted(passed, key=lambda number: (number - self._searched) & 0xFFFF):
                yield self._deliver(self._ordered.pop(number))
        while (run := self._ordered.pop(self.sequence_number, None)) is not None:
            self.sequence_number = uint16_add(self.sequence_number, 1)
            self._searched = self.sequence_number
            yield self._deliver(run)
        self._searched = self.sequence_number

    def prune_chunks(self, tsn: int) -> int:
        """Drop fragments up to `tsn`, which can never become whole (RFC 3758 §3.6); returns their bytes.

        A run that starts its message and reaches exactly `tsn` misses nothing yet: it stays.
        """
        size = self.size
        for run in list(self._by_first.values()):
            if uint32_gte(tsn, run.last) and not (run.begins and run.last == tsn):
                self._forget(run)
                self._release(run)
        return size - self.size

    def _join(self, left: _Run, right: _Run) -> _Run:
        if len(left.fragments) >= len(right.fragments):
            left.fragments.extend(right.fragments)
        else:
            right.fragments.extendleft(reversed(left.fragments))
            left.fragments = right.fragments
        left.last = right.last
        left.ends = right.ends
        left.size += right.size
        return left

    def _forget(self, run: _Run) -> None:
        del self._by_first[run.first]
        del self._by_last[run.last]

    def _release(self, run: _Run) -> None:
        self.size -= run.size
        self.chunks -= len(run.fragments)

    def _deliver(self, run: _Run) -> tuple[int, int, bytes]:
        self._release(run)
        first = run.fragments[0]
        return first.stream_id, first.protocol, b"".join(fragment.user_data for fragment in run.fragments)
