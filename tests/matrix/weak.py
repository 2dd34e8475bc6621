"""Weak links: the last voice does not break before the last picture is gone, and comes back with the link."""

from __future__ import annotations

from d4e_sfu.config import Config, Links
from tests.conftest import KEY
from tests.lab.client import Camera, Voice
from tests.lab.network import Conditions
from tests.lab.person import Person
from tests.lab.scenario import (
    Ear,
    Meter,
    Run,
    gather,
    keyframe_requests,
    payload_type,
    quantile,
    together,
    top_layer,
    wait,
)

CAMERA = Camera(more={"fps": 30, "temporal_layers": 3})  # 150, 500 and 1,700 kbit/s
SMALL = Camera(encodings=(60_000, 150_000, 400_000), more={"fps": 15, "temporal_layers": 2})
PLAYOUT = 0.7  # s, of the narrow row
TURN = 8.0  # s


def narrow(run: Run) -> None:
    """64 kbit/s (IP bytes) down, 400 ms RTT, 5 % loss; four senders of whom one talks at a time; then widened."""
    # The station asks for packets of voices again (RFC 4585 §6.2.1), as libwebrtc does where that is agreed on.
    lab = run.lab(delay=0.005, config=Config(keys=(KEY,), links=Links(start_bitrate=600_000)))
    run.step("four doctors with pictures, who talk in turns of 8 s with DTX; a station watches them over 4 Mbit/s")
    turns = [Voice(bitrate=24_000, dtx=True, turns=(TURN, 3 * TURN, n * TURN)) for n in range(4)]
    doctors = gather(lab, *((CAMERA, turns[n]) for n in range(4)))
    station = lab.join("station", nack=True)
    wide = Conditions(delay=0.025, rate=4_000_000)
    lab.link(station, up=Conditions(delay=0.025), down=wide)
    down = Meter(lab.down(station))
    run.sample(0.25, lambda: {"layer of the first": top_layer(station, doctors[0]), "kbit/s": _kbit(down, lab.now)})
    lab.run(10)

    run.step("the link falls to 64 kbit/s, 400 ms, 5 % loss")
    lab.link(station, up=Conditions(delay=0.2), down=Conditions(delay=0.2, rate=64_000, loss=0.05))
    fell = lab.now
    lab.run(3)
    ears = [Ear(station, doctor) for doctor in doctors]
    measured = lab.now
    lab.run(8 * TURN)
    video = down.video_bytes(fell + 3, lab.now)
    heard = together(ear.close() for ear in ears)
    run.figure("narrow_voice_in_time", 100 * heard.in_time(PLAYOUT), "% of voice frames", ">= 99")
    run.figure("narrow_voice_delay_p95", 1000 * quantile(heard.unrepaired, 0.95), "ms one way", "<= 280")
    run.figure("narrow_video_after_3_s", video, "bytes", "<= 0")
    run.figure("narrow_queue_p95", 1000 * quantile(down.waits(measured, lab.now), 0.95), "ms", "<= 80")

    run.step("the link is 4 Mbit/s, 50 ms, lossless again; the first doctor talks on")
    for doctor in doctors[1:]:
        doctor.mute("microphone")
    doctors[0].unpublish("microphone")
    doctors[0].publish(Voice(bitrate=24_000), name="headset")
    lab.link(station, up=Conditions(delay=0.025), down=wide)
    widened = lab.now
    reached = wait(lab, lambda: _shows_top(station, doctors[0], since=widened), within=60)
    run.figure("widened_top_layer", reached, "s", "<= 10")
    before, made = station.received(doctors[0]), doctors[0].sent("camera")[-1]["frames"]
    lab.run(60)
    after, made = station.received(doctors[0]), doctors[0].sent("camera")[-1]["frames"] - made
    run.figure("widened_switches", after.switches - before.switches, "in a minute", "<= 1")
    # Who stops to send a picture switches no layer.
    run.figure("widened_frames", 100 * (after.frames - before.frames) / made, "% of the talker's pictures", ">= 95")


def bursts(run: Run) -> None:
    """15 % Gilbert–Elliott loss, mean burst 3, RTT 100 ms, playout 250 ms."""
    lab = run.lab(delay=0.005)
    run.step("one talks; two listen, RTT 100 ms")
    doctor = lab.join("doctor", publish=[Voice(bitrate=24_000)])
    weak, good = lab.join("weak"), lab.join("good")
    far = Conditions(delay=0.05)
    for person in (weak, good):
        lab.link(person, up=far, down=far)
    meters = {"weak": Meter(lab.down(weak)), "good": Meter(lab.down(good))}

    def voice_bytes(who: str, begin: float, end: float) -> int:
        return sum(each.size for each in meters[who].between(begin, end) if payload_type(each.packet) is not None)

    lab.run(5)
    begin = lab.now
    lab.run(5)
    # Headers of the two differ by some bytes: each is measured by what he got himself.
    usual = {who: voice_bytes(who, begin, lab.now) / 5 for who in meters}
    # Two minutes: in one, a seed may have more than its share of bursts that no playout of 250 ms bridges.
    for share, burst, seconds in ((0.005, 1.0, 30), (0.15, 3.0, 120)):
        run.step(f"{share:.1%} of what goes to one of them is lost, {burst:g} in a row")
        lab.link(weak, down=Conditions(delay=0.05, loss=share, burst=burst))
        lab.run(10)  # until the server knows
        begin, ear = lab.now, Ear(weak, doctor)
        lab.run(seconds)
        overhead, others = (
            100 * (voice_bytes(who, begin, lab.now) / seconds / usual[who] - 1) for who in ("weak", "good")
        )
        heard = ear.close()
        if share < 0.01:
            run.figure("bursts_overhead_below_1_percent", overhead, "%", "<= 0.5")
            continue
        run.figure("bursts_residual_loss", 100 * (1 - heard.in_time(0.25)), "% of voice frames", "<= 1.5")
        run.figure("bursts_overhead", overhead, "%", "<= 150")
        run.figure("bursts_others", abs(others), "% more or less bytes", "<= 0.5")


def one_leg(run: Run, *, count: int = 8, seconds: float = 30) -> None:
    """Eight in a room, one leg cut to 100 kbit/s with 10 % loss."""
    lab = run.lab()
    run.step(f"{count} with voice and picture")
    people = gather(lab, *((SMALL, Voice(bitrate=24_000)) for _ in range(count)))
    others, weak = people[:-1], people[-1]
    lab.run(8)
    first, requests = _seen(others), [keyframe_requests(person) for person in others]
    lab.run(seconds)
    before = [after - begin for begin, after in zip(first, _seen(others), strict=True)]
    run.step("one leg is cut to 100 kbit/s with 10 % loss, both ways")
    cut = Conditions(delay=0.02, rate=100_000, loss=0.1)
    lab.link(weak, up=Conditions(delay=0.02, loss=0.1), down=cut)
    requests = [keyframe_requests(person) for person in others]
    second = _seen(others)
    lab.run(seconds)
    after = [end - begin for begin, end in zip(second, _seen(others), strict=True)]
    frames, size = (100 * abs(now / then - 1) for then, now in zip(before, after, strict=True))
    asked = [keyframe_requests(person) - was for person, was in zip(others, requests, strict=True)]
    run.figure("one_leg_frame_rate", frames, "% more or less frames of the others", "<= 3")
    run.figure("one_leg_bitrate", size, "% more or less bytes of the others", "<= 3")
    run.figure("one_leg_keyframe_requests", max(asked) / (seconds / 2), "per 2 s at a publisher", "<= 1")


def _seen(people: list[Person]) -> list[float]:
    """Frames and bytes of each other's pictures that they have got."""
    frames = size = 0.0
    for viewer in people:
        for receiver in viewer.stats["receivers"]:
            if set(map(int, receiver["sources"])) & {other.numbers["camera"] for other in people}:
                frames, size = frames + receiver["frames"], size + receiver["bytes"]
    return [frames, size]


def reorder(run: Run) -> None:
    """5 % reorder by 25 ms, 2 % duplicates, on every link."""
    lab = run.lab()
    run.step("two with voice and picture, one who watches")
    alice, bob, carol = gather(lab, [SMALL, Voice(bitrate=24_000)], [SMALL, Voice(bitrate=24_000)], [])
    lab.run(5)
    run.step("5 % of the packets come 25 ms late, 2 % twice")
    disorder = Conditions(delay=0.02, reorder=0.05, reorder_delay=0.025, duplicate=0.02)
    for person in (alice, bob, carol):
        lab.link(person, up=disorder, down=disorder)
    down = Meter(lab.down(carol))
    pairs = [(alice, bob), (bob, alice), (carol, alice), (carol, bob)]
    frozen = [viewer.received(publisher).freezes for viewer, publisher in pairs]
    counted, began = dict(lab.counters), lab.now
    lab.run(30)
    freezes = sum(v.received(p).freezes - was for (v, p), was in zip(pairs, frozen, strict=True))
    headers = [passage.packet.payload[2:4] + passage.packet.payload[8:12] for passage in down.between(began, lab.now)
               if payload_type(passage.packet) is not None]  # fmt: skip
    received = lab.counters["packets_received_video"] - counted["packets_received_video"]
    run.figure("reorder_freezes", freezes, "freezes", "<= 0")
    run.figure("reorder_duplicates", len(headers) - len(set(headers)), "packets forwarded twice", "<= 0")
    nacks = lab.counters["nacks_sent"] - counted["nacks_sent"]
    run.figure("reorder_false_nacks", 100 * nacks / received, "% of the packets", "<= 1")


def _kbit(meter: Meter, now: float) -> float:
    return meter.rate(now - 1, now) / 1000


def _shows_top(viewer: Person, publisher: Person, *, since: float) -> bool:
    got = viewer.received(publisher)
    return got.encoding == 2 and (got.last_frame or 0.0) > max(since + 0.1, viewer.lab.now - 0.2)
