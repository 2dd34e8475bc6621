"""What waits to be told: in order per room and address, again where it failed, bounded, and every drop has a name."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from d4e_sfu.core import outbox
from d4e_sfu.core.outbox import DROPS, Delivery, Event, Outbox

A, B = "https://a.example/hook", "https://b.example/hook"


def box(seed: int = 1) -> Outbox:
    return Outbox(chance=random.Random(seed))


def event(id: str, room: str = "RM_1", at: float = 0.0, body: str = "{}") -> Event:
    return Event(id, room, body, at)


def put(box: Outbox, *events: Event, urls: tuple[str, ...] = (A,), at_most: int = 1000) -> None:
    for each in events:
        assert box.put(each, urls, at_most=at_most)


def settle(box: Outbox, delivery: Delivery, *, arrived: bool, now: float = 0.0, give_up: float = 3600.0) -> None:
    box.settle(delivery, arrived=arrived, give_up=give_up, now=now)


def ids(deliveries: list[Delivery]) -> list[str]:
    return [each.event.id for each in deliveries]


def test_one_of_each_room_and_address_is_under_way_and_the_next_follows_it() -> None:
    b = box()
    put(b, event("1"), event("2"), event("3", room="RM_2"), urls=(A, B))
    first = b.take(now=0.0)
    assert sorted((each.url, each.event.id) for each in first) == [(A, "1"), (A, "3"), (B, "1"), (B, "3")]
    assert b.take(now=0.0) == []
    assert b.next_due() is None, "nothing before one of them settles"
    settle(b, first[0], arrived=True)
    assert ids(b.take(now=0.0)) == ["2"]
    assert len(b) == 3


def test_what_failed_is_tried_again_later_and_later_and_what_is_behind_waits() -> None:
    b = box()
    put(b, event("1"), event("2"))
    now, pauses = 0.0, []
    for _ in range(12):
        (delivery,) = b.take(now=now)
        assert delivery.event.id == "1"
        settle(b, delivery, arrived=False, now=now)
        due = b.next_due()
        assert due is not None
        assert b.take(now=due - 0.001) == []
        pauses.append(due - now)
        now = due
    for failures, pause in enumerate(pauses):
        longest = min(outbox.FIRST_PAUSE * 2**failures, outbox.LONGEST_PAUSE)
        assert longest / 2 <= pause <= longest
    settle(b, *b.take(now=now), arrived=True, now=now)
    (delivery,) = b.take(now=now)
    assert delivery.event.id == "2", "at once: the address answers again"
    settle(b, delivery, arrived=False, now=now)
    assert (b.next_due() or 0) - now <= outbox.FIRST_PAUSE, "and its failures are counted anew"


def test_what_is_too_old_is_dropped_where_it_fails_again_and_not_before() -> None:
    b = box()
    put(b, event("1"), event("2", at=50.0))
    settle(b, *b.take(now=99.0), arrived=False, now=99.9, give_up=100.0)
    assert b.drops["gave_up"] == 0
    settle(b, *b.take(now=200.0), arrived=False, now=200.0, give_up=100.0)
    assert (b.drops["gave_up"], len(b)) == (1, 1)
    due = b.next_due()
    assert due is not None
    settle(b, *b.take(now=due), arrived=True, now=due, give_up=100.0)
    assert (b.delivered, len(b)) == (1, 0), "one that is old and arrives is not dropped"


def test_a_full_box_drops_what_comes_and_tells_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    b = box()
    put(b, event("1"), event("2"))
    assert not b.put(event("3"), (A,), at_most=2)
    assert not b.put(event("4"), (A,), at_most=2)
    assert (b.drops["queue_full"], b.untold, len(b)) == (2, 2, 2)
    put(b, event("5"))
    assert b.untold == 0
    monkeypatch.setattr(outbox, "MAX_BYTES", 100)
    assert not b.put(event("6", body="x" * 95), (A,), at_most=1000), "by bytes as well"


def test_bytes_are_given_back_with_the_last_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_BYTES", 100)
    b = box()
    put(b, event("1", body="x" * 80), urls=(A, B))
    first, second = b.take(now=0.0)
    settle(b, first, arrived=True)
    assert not b.put(event("2", body="x" * 80), (A,), at_most=10)
    settle(b, second, arrived=True)
    put(b, event("3", body="x" * 80))


def test_an_address_that_does_not_answer_holds_up_nobody_else() -> None:
    b = box()
    for number in range(100):
        put(b, event(f"a{number}", room=f"RM_{number}"), urls=(A,))
    put(b, event("b"), urls=(B,))
    taken = b.take(now=0.0)
    assert sum(each.url == A for each in taken) == outbox.UNDER_WAY
    assert sum(each.url == B for each in taken) == 1
    assert b.next_due() is None
    settle(b, taken[0], arrived=False)
    assert b.next_due() == 0.0
    (following,) = b.take(now=0.0)
    assert following.event.id == f"a{outbox.UNDER_WAY}", "who waited longest, not who has just failed"


def test_an_address_that_a_reload_removed_is_told_nothing_more() -> None:
    b = box()
    put(b, event("1"), event("2"), urls=(A, B))
    to_a, to_b = sorted(b.take(now=0.0))
    b.retain([B])
    assert b.drops["address_removed"] == 2
    settle(b, to_a, arrived=True)
    assert b.delivered == 0
    settle(b, to_b, arrived=True)
    settle(b, *b.take(now=0.0), arrived=True)
    assert len(b) == 0


def test_nobody_to_tell_keeps_nothing() -> None:
    b = box()
    put(b, event("1"), urls=())
    assert (len(b), b.take(now=0.0)) == (0, [])


def test_what_waits_is_told_in_order_with_who_has_not_got_it() -> None:
    b = box()
    put(b, event("1"), event("2", room="RM_2"), event("3"), urls=(A, B))
    settle(b, next(each for each in b.take(now=0.0) if each.url == A and each.event.id == "1"), arrived=True)
    assert [(each.id, sorted(urls)) for each, urls in b.waiting()] == [("1", [B]), ("2", [A, B]), ("3", [A, B])]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_fails_each_address_gets_each_rooms_events_in_their_order(seed: int) -> None:
    chance = random.Random(seed)
    b, now, sent = box(seed), 0.0, defaultdict[str, list[str]](list)
    got: dict[tuple[str, str], list[str]] = defaultdict(list)
    under_way: list[Delivery] = []
    made = 0
    while made < 200 or len(b):
        if made < 200 and chance.random() < 0.5:
            room = f"RM_{chance.randrange(4)}"
            put(b, event(str(made), room=room, at=now), urls=(A, B))
            sent[room].append(str(made))
            made += 1
        under_way += b.take(now=now)
        assert len({(each.url, each.event.room) for each in under_way}) == len(under_way)
        if under_way and chance.random() < 0.7:
            delivery = under_way.pop(chance.randrange(len(under_way)))
            arrived = chance.random() < 0.6
            if arrived:
                got[delivery.url, delivery.event.room].append(delivery.event.id)
            settle(b, delivery, arrived=arrived, now=now, give_up=1e9)
        now += chance.uniform(0, 2)
    assert got == {(url, room): of for room, of in sent.items() for url in (A, B)}
    assert not b.drops
    assert set(b.drops) <= set(DROPS)
