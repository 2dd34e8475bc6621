"""What a viewer's link is used for: voices first, then in a fixed order, and nothing that flaps."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import pytest

from d4e_sfu._engine import Rate
from d4e_sfu.core import allocator
from d4e_sfu.core.allocator import (
    ANOTHER,
    BEYOND,
    CLOSER,
    HOLD,
    KEYFRAME,
    LONGEST_HOLD,
    PACE,
    TURN,
    Allocation,
    Picture,
    Place,
    Reason,
    Rung,
    Trust,
    Voice,
    allocate,
    usable,
)
from d4e_sfu.core.boundary import SubscriptionId
from d4e_sfu.core.weights import ALL_TEMPORAL_LAYERS, RESERVE_HALF_LIFE, STALE, USUAL_VOICE, Weights

ALL = ALL_TEMPORAL_LAYERS
RUNGS = (
    Rung(0, 0, 80_000, 180),
    Rung(0, ALL, 150_000, 180),
    Rung(1, 0, 270_000, 360),
    Rung(1, ALL, 500_000, 360),
    Rung(2, 0, 900_000, 720),
    Rung(2, ALL, 1_700_000, 720),
)
SCREEN = (Rung(0, 0, 300_000, 1080), Rung(0, ALL, 800_000, 1080))
WHOLE = 10_000_000


def picture(id: int, place: Place = Place.FAR, *, height: int = 720, rungs: tuple[Rung, ...] = RUNGS) -> Picture:
    return Picture(SubscriptionId(id), place, height, rungs)


def voice(id: int, bitrate: int = 50_000, *, reserve: int | None = None, redundancy: int = 0) -> Voice:
    return Voice(SubscriptionId(id), bitrate, reserve or bitrate, redundancy)


def once(budget: int | None, voices: list[Voice], pictures: list[Picture]) -> Allocation:
    return allocate(budget, voices, pictures, previous=Allocation(), now=0.0)


def with_headroom(budget: int) -> int:
    """The least with which something new may take so much."""
    return next(at for at in range(budget, budget * 2 + 2) if usable(at) >= budget)


def heard(allocation: Allocation, voices: list[Voice]) -> list[int]:
    return [each.subscription for each in voices if allocation.shares[each.subscription].spatial is not None]


def seen(allocation: Allocation, id: int) -> tuple[int, int] | None:
    share = allocation.shares[SubscriptionId(id)]
    return None if share.spatial is None else (share.spatial, share.temporal)


# --- Voices first -----------------------------------------------------------------------------------------------------


def test_without_an_estimate_everyone_gets_what_he_wants() -> None:
    given = once(None, [voice(1)], [picture(2)])
    assert (seen(given, 1), seen(given, 2)) == ((0, 0), (2, ALL))
    assert given.used == given.demand == 50_000 + 1_700_000
    assert given.is_full


def test_no_picture_takes_what_a_voice_needs() -> None:
    voices = [voice(n) for n in range(4)]
    enough = with_headroom(4 * 50_000 + 80_000)
    given = once(enough - 1, voices, [picture(9)])
    assert heard(given, voices) == [0, 1, 2, 3]
    assert seen(given, 9) is None
    assert given.shares[SubscriptionId(9)].reason is Reason.PAUSED
    assert seen(once(enough, voices, [picture(9)]), 9) == (0, 0)


def test_a_silent_voice_has_its_place_kept_but_is_not_taken_away_for_it() -> None:
    voices = [voice(1, 50_000), voice(2, 1_000, reserve=40_000), voice(3, 1_000, reserve=40_000)]
    given = once(64_000, voices, [picture(9)])
    assert heard(given, voices) == [1, 2, 3]
    assert seen(given, 9) is None


def test_redundancy_goes_before_any_voice() -> None:
    voices = [voice(n, 75_000, redundancy=25_000) for n in range(3)]
    given = once(150_000, voices, [])
    assert heard(given, voices) == [0, 1, 2]
    assert not any(given.shares[each.subscription].redundancy for each in voices)
    assert all(once(225_000, voices, []).shares[each.subscription].redundancy for each in voices)


def test_then_voices_go_from_the_last_in_rank_and_the_first_never() -> None:
    voices = [voice(n) for n in range(4)]
    for budget, expected in ((200_000, 4), (199_999, 3), (149_999, 2), (99_999, 1), (49_999, 1), (1, 1)):
        given = once(budget, voices, [])
        assert heard(given, voices) == list(range(expected)), budget
        assert all(given.shares[each.subscription].reason is Reason.VOICE_PAUSED for each in voices[expected:])


def test_what_one_voice_may_take_is_there_at_the_change_of_a_turn_and_for_the_noise_of_the_silent() -> None:
    # He who ends, he who begins, and two who are silent; as the engine's seconds show it.
    for ends, begins in ((50_000, 0), (37_500, 12_500), (20_000, 30_000), (6_000, 44_000)):
        voices = [voice(n, bitrate, reserve=50_000) for n, bitrate in enumerate((ends, begins, 1_500, 1_500))]
        assert heard(once(40_000, voices, []), voices) == [0, 1, 2, 3]


def test_a_voice_comes_back_as_soon_as_it_fits_whatever_pictures_wait_for() -> None:
    both = [voice(1), voice(2)]
    given = allocate(60_000, both, [picture(9)], previous=Allocation(trust=Trust(100.0, hold=32.0)), now=100.2)
    assert heard(given, both) == [1]
    assert not given.holds(60_000, now=100.4)
    turn = [voice(1, 5_000, reserve=50_000), voice(2)]
    assert heard(allocate(60_000, turn, [picture(9)], previous=given, now=101.0), turn) == [1, 2]


# --- Pictures ---------------------------------------------------------------------------------------------------------


def shedding(pictures: list[Picture]) -> list[tuple[int, tuple[int, int] | None]]:
    """What goes first, second … as the budget falls: (whose, what is left of it)."""
    order = []
    last = once(WHOLE, [], pictures)
    for budget in range(last.used, -1, -4_000):
        given = allocate(budget, [], pictures, previous=last, now=0.0)
        for each in pictures:
            after = seen(given, each.subscription)
            if after != seen(last, each.subscription):
                order.append((int(each.subscription), after))
        last = given
    return order


def test_what_goes_first_is_always_the_same() -> None:
    order = shedding([picture(1, Place.SPEAKER), picture(2, Place.SCREEN, rungs=SCREEN), picture(3, height=180)])
    sizes = [(2, 0), (1, ALL), (1, 0), (0, ALL), (0, 0)]
    # The far picture's frames and size, then the speaker's; then the far picture, the screen's frames, the screen.
    assert order == [
        *((3, size) for size in sizes),
        *((1, size) for size in sizes),
        (3, None),
        (2, (0, 0)),
        (2, None),
        (1, None),
    ]


def test_the_speaker_grows_before_the_others_and_they_grow_together() -> None:
    far = [picture(n) for n in range(2, 6)]
    given = once(with_headroom(4 * 150_000 + 1_700_000), [], [picture(1, Place.SPEAKER), *far])
    assert seen(given, 1) == (2, ALL)
    assert [seen(given, n) for n in range(2, 6)] == [(0, ALL)] * 4
    given = once(with_headroom(4 * 500_000 + 1_700_000 + 399_000), [], [picture(1, Place.SPEAKER), *far])
    assert [seen(given, n) for n in range(2, 6)] == [(1, ALL)] * 4, "nobody is large while another one is small"


def test_the_far_pictures_that_go_first_are_the_smallest_views() -> None:
    given = once(with_headroom(170_000), [], [picture(1, height=90), picture(2, height=360), picture(3, height=90)])
    assert [seen(given, n) is not None for n in (1, 2, 3)] == [True, True, False]


def test_pictures_over_the_rooms_number_are_told_so_and_weigh_nothing() -> None:
    given = allocate(WHOLE, [], [picture(1)], surplus=[SubscriptionId(2)], previous=Allocation(), now=0.0)
    assert given.shares[SubscriptionId(2)].reason is Reason.NOT_RECENT
    assert seen(given, 2) is None
    assert given.used == given.demand == 1_700_000


# --- What always holds ------------------------------------------------------------------------------------------------


def a_room(chance: random.Random) -> tuple[list[Voice], list[Picture]]:
    voices = [
        voice(n, bitrate, reserve=bitrate + chance.randrange(0, 50_000), redundancy=bitrate // 3)
        for n in range(chance.randrange(0, 12))
        for bitrate in [chance.randrange(1_000, 90_000)]
    ]
    pictures = []
    for n in range(chance.randrange(0, 30)):
        weight = chance.uniform(0.2, 2.0)
        count = chance.randrange(1, len(RUNGS) + 1)
        rungs = tuple(Rung(r.spatial, r.temporal, int(r.bitrate * weight), r.height) for r in RUNGS[:count])
        pictures.append(picture(100 + n, chance.choice(list(Place)), height=chance.choice((0, 90, 360)), rungs=rungs))
    return voices, pictures


@pytest.mark.parametrize("seed", range(50))
def test_never_over_budget_unless_it_is_what_one_voice_takes(seed: int) -> None:
    chance = random.Random(seed)
    previous, now = Allocation(), 0.0
    for _ in range(40):
        voices, pictures = a_room(chance)
        budget = chance.randrange(1, 5_000_000)
        given = allocate(budget, voices, pictures, previous=previous, now=now)
        sent = sum(share.bitrate for share in given.shares.values())
        audible = heard(given, voices)
        one = TURN * max((each.reserve - each.redundancy for each in voices), default=0)
        assert sent <= max(budget, one) or len(audible) == 1
        assert audible or not voices
        watched = [each for each in pictures if seen(given, each.subscription)]
        assert not watched or given.used <= budget
        if watched:
            assert len(audible) == len(voices), "no picture while a voice is missing"
        previous, now = given, now + chance.uniform(0.2, 5.0)


@pytest.mark.parametrize("seed", range(20))
def test_more_budget_never_costs_a_voice_or_the_speaker(seed: int) -> None:
    voices, pictures = a_room(random.Random(seed))
    voices = [voice(each.subscription, 50_000) for each in voices]
    audible: set[int] = set()
    visible = False
    for budget in range(0, 3_000_000, 50_000):
        given = once(budget, voices, [picture(99, Place.SPEAKER), *pictures])
        assert audible <= set(heard(given, voices)), budget
        assert visible <= (seen(given, 99) is not None), budget
        audible, visible = set(heard(given, voices)), seen(given, 99) is not None
    assert visible
    assert len(audible) == len(voices)


def test_more_budget_shows_more() -> None:
    pictures = [picture(1, Place.SPEAKER), *(picture(n) for n in range(2, 8))]
    shown = [once(budget, [], pictures).used for budget in range(0, 14_000_000, 50_000)]
    assert all(after >= before for before, after in itertools.pairwise(shown))
    assert shown[-1] == 7 * 1_700_000


@pytest.mark.parametrize("seed", range(50))
def test_where_it_is_said_to_hold_another_estimate_gives_the_same(seed: int) -> None:
    chance = random.Random(seed)
    previous, now, held, asked = Allocation(), 0.0, 0, 0
    for _ in range(40):
        voices, pictures = a_room(chance)
        given = allocate(chance.randrange(1, 5_000_000), voices, pictures, previous=previous, now=now)
        for _ in range(20):
            budget, later = int(given.used * chance.uniform(0.9, 1.3)), now + chance.uniform(0.0, 5.0)
            asked += 1
            if given.holds(budget, now=later):
                held += 1
                again = allocate(budget, voices, pictures, previous=given, now=later)
                assert again.shares == given.shares
                assert again.used == given.used
        previous, now = given, now + chance.uniform(0.2, 5.0)
    assert asked / 4 < held < asked


# --- Restoring has hysteresis -----------------------------------------------------------------------------------------


def history(budgets: list[int], pictures: list[Picture], *, apart: float = 0.2) -> list[Allocation]:
    given, now, made = Allocation(), 0.0, []
    for budget in budgets:
        given = allocate(budget, [], pictures, previous=given, now=now)
        made.append(given)
        now += apart
    return made


def test_what_is_had_stays_up_to_the_budget_and_what_comes_needs_headroom() -> None:
    at = 500_000
    up = with_headroom(at)
    made = history([up - 10, up, at, at - 1], [picture(1)])
    assert [seen(each, 1) for each in made] == [(1, 0), (1, ALL), (1, ALL), (1, 0)]


def test_it_comes_back_after_the_hold_and_not_before() -> None:
    few, many = 400_000, WHOLE
    count = int(HOLD / 0.25)
    made = history([many, few, *[many] * count], [picture(1)], apart=0.25)
    sizes = [seen(each, 1) for each in made]
    assert sizes == [(2, ALL), *[(1, 0)] * count, (2, ALL)]


def switches(made: list[Allocation]) -> int:
    sizes = [seen(each, 1) for each in made]
    return sum(before != after for before, after in itertools.pairwise(sizes))


def test_an_estimate_that_swings_by_some_percent_switches_nothing() -> None:
    chance = random.Random(7)
    for centre in range(100_000, 2_000_000, 150_000):
        made = history([int(centre * chance.uniform(0.96, 1.04)) for _ in range(300)], [picture(1)])
        assert switches(made) <= 2, centre


def test_a_link_that_does_not_carry_what_it_promised_is_believed_less_and_less() -> None:
    made, now, given, trusted = [], 0.0, Allocation(), 0.0
    for _ in range(600):  # two minutes; it falls a second after every rise
        lowered = seen(given, 1) != (2, ALL) if given.shares else True
        trusted = trusted if not lowered else now
        given = allocate(WHOLE if now - trusted < 1.0 else 400_000, [], [picture(1)], previous=given, now=now)
        made.append(given)
        now += 0.2
    rises = sum(seen(a, 1) != (2, ALL) and seen(b, 1) == (2, ALL) for a, b in itertools.pairwise(made))
    assert rises <= 7
    assert given.trust.hold == LONGEST_HOLD


def test_after_a_broken_promise_what_is_less_comes_back_soon_and_what_broke_it_late() -> None:
    promise = with_headroom(1_700_000)

    def broken() -> Allocation:
        """500 kbit/s were carried for long; what was promised then was not, so that 270 were left."""
        given = allocate(560_000, [], [picture(1)], previous=Allocation(), now=0.0)
        given = allocate(promise, [], [picture(1)], previous=given, now=10.0)
        assert seen(given, 1) == (2, ALL)
        return allocate(400_000, [], [picture(1)], previous=given, now=11.0)

    given = broken()
    given = allocate(promise, [], [picture(1)], previous=given, now=11.0 + HOLD)
    assert seen(given, 1) == (2, 0), "half of what had been given on top, and no more"
    assert given.holds(promise, now=11.0 + 2 * HOLD - 0.1)
    assert not given.holds(promise, now=11.0 + 2 * HOLD)
    given = allocate(promise, [], [picture(1)], previous=given, now=11.0 + 2 * HOLD)
    assert seen(given, 1) == (2, ALL)
    for times, expected in ((ANOTHER - 0.01, (2, 0)), (ANOTHER + 0.01, (2, ALL))):
        given = allocate(int(promise * times), [], [picture(1)], previous=broken(), now=11.0 + HOLD)
        assert seen(given, 1) == expected, "another link is asked anew"


def test_what_was_not_carried_is_tried_a_little_beyond_when_it_has_waited() -> None:
    broken, carried = 1_000_000, 800_000
    trust = Trust(lowered_at=0.0, hold=LONGEST_HOLD, broken=broken, carried=carried, promised=WHOLE)
    assert trust.growth(WHOLE, now=CLOSER) == 950_000
    assert trust.growth(WHOLE, now=2 * CLOSER) == 975_000 + BEYOND * broken
    assert trust.growth(WHOLE, now=3 * CLOSER) > broken


def test_what_comes_on_top_comes_some_time_apart() -> None:
    given = allocate(with_headroom(150_000), [], [picture(1)], previous=Allocation(), now=0.0)
    given = allocate(with_headroom(500_000), [], [picture(1)], previous=given, now=9.0)
    assert seen(given, 1) == (1, ALL)
    more = with_headroom(1_400_000)
    early = allocate(more, [], [picture(1)], previous=given, now=9.0 + PACE - 0.1)
    assert seen(early, 1) == (1, ALL)
    late = allocate(more, [], [picture(1)], previous=early, now=9.0 + PACE)
    assert seen(late, 1) == (2, 0)
    assert seen(allocate(WHOLE, [], [picture(1)], previous=given, now=9.1), 1) == (2, ALL), "there is room for all"


def test_another_encoding_waits_until_its_keyframe_does_not_fill_the_link() -> None:
    top = int(KEYFRAME * 1_700_000)
    given = allocate(with_headroom(500_000), [], [picture(1)], previous=Allocation(), now=0.0)
    for budget, expected in ((with_headroom(top) - 1, (1, ALL)), (with_headroom(top), (2, 0))):
        later = allocate(budget, [], [picture(1)], previous=given, now=9.0)
        assert seen(later, 1) == expected
        assert expected == (2, 0) or (later.holds(budget, now=19.0) and not later.holds(budget + 1, now=19.0))
    # Two at once are two keyframes; the first shown of a picture is one, whatever it is.
    both = [picture(1), picture(2)]
    given = allocate(with_headroom(1_000_000), [], both, previous=Allocation(), now=0.0)
    assert [seen(given, 1), seen(given, 2)] == [(1, ALL), (1, ALL)]
    given = allocate(with_headroom(2 * top) - 1, [], both, previous=given, now=9.0)
    assert {seen(given, 1), seen(given, 2)} == {(1, ALL), (2, ALL)}
    assert seen(allocate(with_headroom(900_000), [], [picture(1)], previous=Allocation(), now=0.0), 1) == (2, 0)


def test_who_begins_to_speak_is_large_at_once_within_what_is_had() -> None:
    budget = 1_700_000 + 150_000
    first = [picture(1, Place.SPEAKER), picture(2)]
    given = allocate(with_headroom(budget), [], first, previous=Allocation(), now=0.0)
    assert (seen(given, 1), seen(given, 2)) == ((2, ALL), (0, ALL))
    given = allocate(budget, [], [picture(2, Place.SPEAKER), picture(1)], previous=given, now=0.2)
    assert (seen(given, 1), seen(given, 2)) == ((0, ALL), (2, ALL))


def test_redundancy_and_voices_come_back_with_headroom_as_well() -> None:
    voices = [voice(1, 75_000, redundancy=25_000), voice(2, 75_000, redundancy=25_000)]
    given = allocate(60_000, voices, [], previous=Allocation(), now=0.0)
    assert heard(given, voices) == [1]
    given = allocate(100_000, voices, [], previous=given, now=10.0)
    assert heard(given, voices) == [1]
    given = allocate(112_000, voices, [], previous=given, now=20.0)
    assert heard(given, voices) == [1, 2]
    given = allocate(150_000, voices, [], previous=given, now=30.0)
    assert not given.shares[SubscriptionId(1)].redundancy
    given = allocate(170_000, voices, [], previous=given, now=40.0)
    assert given.shares[SubscriptionId(1)].redundancy


# --- What things weigh ------------------------------------------------------------------------------------------------

HEIGHTS = (180, 360, 720)


def measured(encoding: int, *layers: tuple[int, int, int]) -> Rate:
    return Rate(publication=1, encoding=encoding, layers=layers)


def test_before_it_is_measured_a_picture_weighs_what_is_usual_and_no_more_than_its_cap() -> None:
    ladder = Weights().ladder(2, HEIGHTS, encodings=3, cap=1_000_000, now=0.0)
    assert [rung.bitrate // 10_000 for rung in ladder] == [15, 50, 100]
    assert [(rung.spatial, rung.temporal) for rung in ladder] == [(0, ALL), (1, ALL), (2, ALL)]


def test_layers_add_up_and_the_highest_limit_means_all() -> None:
    weights = Weights()
    weights.measure(measured(0, (0, 0, 60_000), (0, 1, 20_000), (0, 2, 40_000)), now=1.0)
    weights.measure(measured(1, (0, 0, 500_000)), now=1.0)
    ladder = weights.ladder(1, HEIGHTS, encodings=3, cap=3_000_000, now=1.0)
    assert [(rung.spatial, rung.temporal, rung.bitrate) for rung in ladder] == [
        (0, 0, 60_000),
        (0, 1, 80_000),
        (0, ALL, 120_000),
        (1, ALL, 500_000),
    ]
    again = weights.ladder(1, HEIGHTS, encodings=3, cap=3_000_000, now=1.0 + STALE)
    assert [rung.bitrate for rung in again] != [rung.bitrate for rung in ladder], "it has stopped"


def test_layers_in_one_stream_are_one_ladder() -> None:
    weights = Weights()
    weights.measure(measured(0, (0, 0, 50_000), (0, 1, 50_000), (1, 0, 200_000), (1, 1, 100_000)), now=1.0)
    ladder = weights.ladder(2, HEIGHTS, encodings=1, cap=3_000_000, now=1.0)
    assert [(rung.spatial, rung.temporal, rung.bitrate) for rung in ladder] == [
        (0, 0, 50_000),
        (0, ALL, 100_000),
        (2, 0, 250_000),  # of what is not there, the highest that is
        (2, ALL, 400_000),
    ]


def test_a_form_that_weighs_as_much_as_a_better_one_is_left_out() -> None:
    weights = Weights()
    weights.measure(measured(0, (0, 0, 100_000), (0, 1, 100_000)), now=1.0)
    weights.measure(measured(1, (0, 0, 150_000)), now=1.0)
    ladder = weights.ladder(1, HEIGHTS, encodings=2, cap=3_000_000, now=1.0)
    assert [(rung.spatial, rung.temporal) for rung in ladder] == [(0, 0), (1, ALL)]


def test_one_keyframe_is_no_trend() -> None:
    weights = Weights()
    for second in range(10):
        weights.measure(measured(0, (0, 0, 900_000 if second == 5 else 500_000)), now=float(second))
        (rung,) = weights.ladder(0, (720,), encodings=1, cap=3_000_000, now=float(second))
        assert rung.bitrate <= 700_000


def test_a_voice_weighs_what_it_sends_and_reserves_what_it_will() -> None:
    weights = Weights()
    assert weights.voice(now=0.0) == 0
    assert weights.reserve(now=0.0) == USUAL_VOICE
    for second in range(1, 9):
        weights.measure(measured(0, (0, 0, 60_000)), now=float(second))
    assert 55_000 < weights.voice(now=8.0) <= 60_000
    for second in range(9, 13):
        weights.measure(measured(0, (0, 0, 1_000)), now=float(second))
    assert weights.voice(now=12.0) < 6_000
    assert weights.voice(now=30.0) < 10, "nothing at all is told of one who is mute"
    assert 45_000 < weights.reserve(now=12.0) < 60_000
    assert weights.reserve(now=8.0 + 2 * RESERVE_HALF_LIFE) == pytest.approx(15_000, rel=0.1)


def test_the_page_on_the_allocator_has_the_headings_of_the_code() -> None:
    folder = Path(allocator.__file__).parent
    code = re.findall(r"^# --- (.*?) -+$", (folder / "allocator.py").read_text(), re.MULTILINE)
    page = re.findall(r"^## (.*)$", (folder / "README.md").read_text(), re.MULTILINE)
    assert code == ["What is wanted", "What is given", "Voices first", "Pictures"]
    assert page[: len(code)] == code
