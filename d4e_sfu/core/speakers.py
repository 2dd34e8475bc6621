"""Who is speaking: speech that the engine has heard → a few calm facts that clients may be told.

Not every sound is a speaker. Somebody has begun when half of a short while was speech, so a cough or a chair passes by;
he has stopped when nothing was heard for a second, so a breath between two sentences does not flicker. The dominant
speaker stays so until he stops or another has been louder for a while. Who is told is in audience.py; which samples
count as speech is the engine's (`engine/src/publication/voice.rs`).
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Final

from livekit.protocol import models

if TYPE_CHECKING:
    from collections.abc import Iterable

# He has begun: so much speech (s) within so long. A cough takes 0.3 s.
ATTACK: Final = 0.4
WINDOW: Final = 0.8
# He has stopped: no speech for so long, s.
RELEASE: Final = 1.0
# Another one is dominant after he has been louder by a step for so long, s.
TAKEOVER: Final = 1.5
# Clients are told at most this often, s. Who stops because he muted is told at once.
INTERVAL: Final = 0.4

# Loudness is shown in eighths, even in dB as the ear is: from the softest speech to as loud as microphones make it.
STEPS: Final = 8
SOFTEST: Final = 50.0  # −dBov (RFC 6464)
LOUDEST: Final = 10.0
# The share of a new sample in the level that is shown, and how far (in steps) it moves before a new one is shown.
SMOOTHING: Final = 0.4
STICKINESS: Final = 0.75


class _Voice:
    """What was heard of one participant."""

    __slots__ = ("heard", "heard_at", "level", "shown", "speaking")

    def __init__(self) -> None:
        self.heard: collections.deque[tuple[float, float]] = collections.deque()  # (when, seconds of speech)
        self.heard_at = 0.0
        self.level = 0.0  # smoothed, in steps
        self.shown = 0  # in whole steps
        self.speaking = False

    def hear(self, level: int, spoken: float, *, now: float) -> None:
        self.heard.append((now, spoken))
        self.heard_at = now
        steps = (SOFTEST - level) / (SOFTEST - LOUDEST) * STEPS
        steps = min(max(steps, 1.0), float(STEPS))
        self.level += (steps - self.level) * (SMOOTHING if self.level else 1.0)

    def settle(self, *, now: float) -> bool:
        """Does he speak, as time goes on? False: he is silent and may be forgotten."""
        while self.heard and now - self.heard[0][0] >= WINDOW:
            self.heard.popleft()
        if self.speaking:
            self.speaking = now - self.heard_at < RELEASE
        else:
            self.speaking = sum(spoken for _, spoken in self.heard) >= ATTACK - 1e-9
        if not self.speaking:
            self.shown = 0
        elif abs(self.level - self.shown) > STICKINESS:
            self.shown = max(1, round(self.level))
        return self.speaking or bool(self.heard)


class Speakers:
    """Of one room, by the participant's sid."""

    __slots__ = ("_asked_at", "_challenged_at", "_challenger", "_dominant", "_spoke", "_told", "_voices", "lead")

    def __init__(self) -> None:
        self._voices: dict[str, _Voice] = {}
        self._told: dict[str, models.SpeakerInfo] = {}
        self._asked_at = float("-inf")
        self._dominant: str | None = None
        self._challenger: str | None = None
        self._challenged_at = 0.0
        self._spoke: dict[str, float] = {}  # of those who are here: when they last spoke
        self.lead: str | None = None  # who led the conversation last; he stays it in a pause

    def spoke(self, sid: str) -> float:
        """When he last spoke; minus infinity: never."""
        return self._spoke.get(sid, float("-inf"))

    def forget(self, sid: str) -> None:
        """He has left."""
        self._spoke.pop(sid, None)
        if sid == self.lead:
            self.lead = None

    def hear(self, sid: str, level: int, spoken: float, *, now: float) -> None:
        """`spoken` seconds of speech at `level` (−dBov), just now."""
        self._voices.setdefault(sid, _Voice()).hear(level, spoken, now=now)

    def silence(self, sid: str) -> models.SpeakerInfo | None:
        """He cannot be heard any more. The entry that says so, if he was said to speak."""
        self._voices.pop(sid, None)
        if sid == self._dominant:
            self._dominant = None
        return silent(sid) if self._told.pop(sid, None) is not None else None

    def changes(self, *, now: float) -> list[models.SpeakerInfo]:
        """What is not as it was said last time, the dominant speaker first; nothing if asked again too soon."""
        if not (self._voices or self._told) or now - self._asked_at < INTERVAL - 1e-9:
            return []
        self._asked_at = now
        self._voices = {sid: voice for sid, voice in self._voices.items() if voice.settle(now=now)}
        self._choose_dominant(now=now)
        self.lead = self._dominant or self.lead
        self._spoke.update((sid, now) for sid, voice in self._voices.items() if voice.speaking)
        current = {info.sid: info for info in self._describe()}
        ended = [silent(sid) for sid in self._told if sid not in current]
        changed = [info for sid, info in current.items() if info != self._told.get(sid)]
        self._told = current
        return changed + ended

    def among(self, sids: Iterable[str]) -> list[models.SpeakerInfo]:
        """Those of them who are said to speak."""
        return [self._told[sid] for sid in sids if sid in self._told]

    @property
    def dominant(self) -> str | None:
        """Who leads the conversation; of those who speak at the moment."""
        return self._dominant

    @property
    def ranking(self) -> list[str]:
        """Who speaks, the dominant speaker first, then by loudness."""
        speaking = [sid for sid, voice in self._voices.items() if voice.speaking]
        return sorted(speaking, key=lambda sid: (sid != self._dominant, -self._voices[sid].level))

    def _choose_dominant(self, *, now: float) -> None:
        speaking = {sid: voice for sid, voice in self._voices.items() if voice.speaking}
        if not speaking:
            self._dominant = self._challenger = None
            return
        loudest = max(speaking, key=lambda sid: speaking[sid].level)
        if self._dominant not in speaking:
            self._dominant, self._challenger = loudest, None
        elif loudest == self._dominant or speaking[loudest].level < speaking[self._dominant].level + 1:
            self._challenger = None
        elif loudest != self._challenger:
            self._challenger, self._challenged_at = loudest, now
        elif now - self._challenged_at >= TAKEOVER:
            self._dominant, self._challenger = loudest, None

    def _describe(self) -> list[models.SpeakerInfo]:
        """In the order of the ranking, and so that it can be seen: stock clients sort by level."""
        ranking = self.ranking
        if not ranking:
            return []
        top = max(self._voices[sid].shown for sid in ranking)
        if len(ranking) > 1:
            top = max(top, 2)
        levels = {sid: min(self._voices[sid].shown, top - 1) for sid in ranking[1:]}
        levels = {ranking[0]: top, **levels}
        return [models.SpeakerInfo(sid=sid, level=steps / STEPS, active=True) for sid, steps in levels.items()]


def silent(sid: str) -> models.SpeakerInfo:
    """What ends what was said of a speaker."""
    return models.SpeakerInfo(sid=sid, level=0.0, active=False)
