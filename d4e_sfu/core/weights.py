"""What one publication weighs on a link: what the engine has measured of it, smoothed; what is usual, until it has.

Bits per second with everything down to the IP header, as estimates are. A voice weighs what it sends now, and has what
it sends when he speaks reserved; a picture has a ladder of forms, each heavier than the one before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from d4e_sfu.core.allocator import Rung

if TYPE_CHECKING:
    from collections.abc import Sequence

    from d4e_sfu._engine import Rate

ALL_TEMPORAL_LAYERS: Final = 255

# Opus at 24 kbit/s in packets of 20 ms: 60 bytes, and 64 of RTP with extensions, SRTP, UDP and IP around them.
USUAL_VOICE: Final = 50_000
# What RFC 2198 adds to that with one earlier packet: 65 of 189 bytes.
REDUNDANT_SHARE: Final = 0.34
# With several, and never more than this (engine: subscription/redundancy.rs), of the voice without.
REDUNDANT_BLOCK: Final = REDUNDANT_SHARE / (1 - REDUNDANT_SHARE)
MOST_REDUNDANT: Final = 1.5
# A camera's 180, 360, 720 lines take about 150, 500, 1700 kbit/s with the encoders of browsers: the power of their
# height that goes through these.
USUAL_PICTURE: Final = 150_000
USUAL_HEIGHT: Final = 180
USUAL_POWER: Final = 1.75

# Of what is new each second, so much counts: rising it must be believed soon. One keyframe is no trend: it is the less
# of the last two seconds that rises.
RISE: Final = 0.5
FALL: Final = 0.2
# A voice ends more clearly than a picture: it is a turn in a conversation.
VOICE_FALL: Final = 0.5
# What a voice weighed when he last spoke is forgotten by a half in this time, s: some turns of a conversation.
RESERVE_HALF_LIFE: Final = 30.0
# Nothing was told of an encoding for so long, s: it is not there, and will weigh what is usual when it comes.
STALE: Final = 3.0


class Weights:
    """Of one publication."""

    __slots__ = ("_ladders", "_layers", "_measured_at", "_peak", "_sound_at", "_told", "_voice")

    def __init__(self) -> None:
        self._layers: dict[int, dict[tuple[int, int], float]] = {}  # by encoding: (spatial, temporal) → bits/s, alone
        self._told: dict[int, dict[tuple[int, int], float]] = {}  # the last of it
        self._measured_at: dict[int, float] = {}
        self._ladders: dict[tuple[int, ...], tuple[Rung, ...]] = {}
        self._voice = 0.0
        self._peak = float(USUAL_VOICE)
        self._sound_at: float | None = None

    def measure(self, rate: Rate, *, now: float) -> None:
        """Once a second."""
        self._ladders.clear()
        fresh = now - self._measured_at.get(rate.encoding, float("-inf")) < STALE
        before = self._layers.get(rate.encoding, {}) if fresh else {}
        told = {(spatial, temporal): float(bitrate) for spatial, temporal, bitrate in rate.layers}
        last = self._told.get(rate.encoding, {})
        self._layers[rate.encoding] = {
            layer: _smoothed(before[layer], min(told.get(layer, 0.0), max(before[layer], last.get(layer, 0.0))), FALL)
            if layer in before
            else told[layer]
            for layer in {*before, *told}
        }
        self._told[rate.encoding] = told
        self._measured_at[rate.encoding] = now
        sound = sum(told.values())
        voice, reserve = self.voice(now=now), self.reserve(now=now)
        self._voice = _smoothed(voice, sound, VOICE_FALL)
        self._peak = max(reserve, sound)
        self._sound_at = now

    def voice(self, *, now: float) -> float:
        """Of a voice, now. Of a second without a packet nothing is told."""
        silent = 0.0 if self._sound_at is None else max(0.0, now - self._sound_at - 1.5)
        return self._voice * math.pow(1 - VOICE_FALL, silent)

    def reserve(self, *, now: float) -> float:
        """Of a voice, when he speaks."""
        age = 0.0 if self._sound_at is None else now - self._sound_at
        return max(self._peak * math.pow(0.5, age / RESERVE_HALF_LIFE), self.voice(now=now))

    def ladder(self, top: int, heights: Sequence[int], *, encodings: int, cap: int, now: float) -> tuple[Rung, ...]:
        """Of a picture, up to the spatial layer `top`. `cap`: what all its encodings may weigh."""
        fresh = [now - self._measured_at.get(encoding, float("-inf")) < STALE for encoding in range(encodings)]
        key = (top, *heights, *fresh)
        found = self._ladders.get(key)
        if found is None:
            found = self._ladders[key] = _rising(self._rungs(top, heights, fresh, cap))
        return found

    def _rungs(self, top: int, heights: Sequence[int], fresh: Sequence[bool], cap: int) -> list[Rung]:
        rungs = []
        for spatial in range(top + 1):
            height = heights[min(spatial, len(heights) - 1)]
            encoding = spatial if len(fresh) > 1 else 0
            if not fresh[encoding]:
                usual = USUAL_PICTURE * math.pow(height / USUAL_HEIGHT, USUAL_POWER)
                rungs.append(Rung(spatial, ALL_TEMPORAL_LAYERS, min(int(usual), cap), height))
                continue
            layers = self._layers[encoding]
            if len(fresh) == 1:
                layers = {layer: bitrate for layer, bitrate in layers.items() if layer[0] <= spatial}
            temporals = sorted({temporal for _, temporal in layers})
            for temporal in temporals:
                bitrate = sum(bitrate for layer, bitrate in layers.items() if layer[1] <= temporal)
                limit = ALL_TEMPORAL_LAYERS if temporal == temporals[-1] else temporal
                rungs.append(Rung(spatial, limit, int(bitrate), height))
        return rungs


def _rising(rungs: list[Rung]) -> tuple[Rung, ...]:
    """Without those that weigh as much as a better one."""
    kept: list[Rung] = []
    for rung in reversed(rungs):
        if not kept or rung.bitrate < kept[-1].bitrate:
            kept.append(rung)
    return tuple(reversed(kept))


def _smoothed(before: float, told: float, fall: float) -> float:
    return before + (told - before) * (RISE if told > before else fall)
