"""Fragments of SCTP messages put back together, in any order and within limits."""

from __future__ import annotations

import random

import pytest
from aiortc.rtcsctptransport import DataChunk
from hypothesis import given, settings
from hypothesis import strategies as st

from d4e_sfu.drivers.reassembly import Reassembly, Violation


def _chunk(tsn: int, flags: int, payload: bytes, seq: int = 0) -> DataChunk:
    chunk = DataChunk(flags=flags)
    chunk.tsn, chunk.stream_id, chunk.stream_seq, chunk.protocol, chunk.user_data = tsn % 2**32, 1, seq, 53, payload
    return chunk


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=12), st.booleans()), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from([0, 2**32 - 5, 2**31 - 3]),
)
def test_messages_come_back_whole_in_any_order_of_their_fragments(
    messages: list[tuple[bytes, bool]], chance: random.Random, start: int
) -> None:
    chunks, tsn, seq = [], start, 0
    for payload, unordered in messages:
        for position in range(len(payload)):
            flags = (2 if position == 0 else 0) | (1 if position == len(payload) - 1 else 0) | (4 if unordered else 0)
            chunks.append(_chunk(tsn, flags, payload[position : position + 1], seq))
            tsn += 1
        seq += not unordered
    chance.shuffle(chunks)
    stream = Reassembly(100)
    delivered_messages = []
    for chunk in chunks:
        stream.add_chunk(chunk)
        delivered_messages += [data for _, _, data in stream.pop_messages()]
    ordered = [payload for payload, unordered in messages if not unordered]
    assert sorted(delivered_messages) == sorted(payload for payload, _ in messages)
    rest = list(delivered_messages)
    for payload, unordered in messages:
        if unordered:
            rest.remove(payload)
    assert sorted(rest) == sorted(ordered)
    if not any(unordered for _, unordered in messages):
        assert delivered_messages == ordered
    assert (stream.size, stream.chunks) == (0, 0)
    assert not stream._by_first
    assert not stream._by_last


def test_forward_tsn_drops_the_unfinished_and_delivers_what_waited_for_it() -> None:
    stream = Reassembly(100)
    stream.add_chunk(_chunk(10, 2, b"a", seq=0))  # never finished
    stream.add_chunk(_chunk(12, 3, b"second", seq=1))
    assert not list(stream.pop_messages())
    stream.sequence_number = 2  # what aiortc does on FORWARD TSN up to 12 with (stream 1, sequence 1)
    assert [data for _, _, data in stream.pop_messages()] == [b"second"]
    assert stream.prune_chunks(12) == 1
    assert stream.size == 0


def test_a_message_over_the_limit_is_a_violation() -> None:
    stream = Reassembly(10)
    stream.add_chunk(_chunk(1, 2, bytes(6)))
    with pytest.raises(Violation, match="message_size"):
        stream.add_chunk(_chunk(2, 0, bytes(6)))
