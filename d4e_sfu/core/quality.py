"""How good one participant's link is, and which leg of it is to blame: what the engine has counted → a word, a score.

Two legs: `up` from the client to us (judged by what came here) and `down` from us to the client (judged by his receiver
reports). Each is rated by loss, jitter and delay with the E-model of ITU-T G.107 in its usual short form, half of the
round trip for each; the worse leg counts. It falls at once and rises only when it has stayed better, so that a badge
does not flicker. Who is told is in audience.py.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models

if TYPE_CHECKING:
    from d4e_sfu._engine import Leg, Link

Word = models.ConnectionQuality

# Judged this often, s: two tellings of the engine, and the longest interval between two reports about a voice.
INTERVAL: Final = 5.0
# It is better when it has been better so many times in a row.
PATIENCE: Final = 2
# G.107 Annex B: from 80 users are satisfied, from 60 on many are not.
EXCELLENT: Final = 80.0
GOOD: Final = 60.0
BEST: Final = 93.2  # what the E-model gives to a call without any fault
LOSS: Final = 2.5  # points for each percent lost
BUFFER: Final = 10.0  # ms; what a receiver adds of its own
# Of fewer packets than this one that is lost says little: a silent voice sends two or three a second.
EVIDENCE: Final = 50
# Clients prove every 6 s at the latest that they are there (RFC 7675 §5.1).
SILENT_MS: Final = 10_000
# Packets sent between two judgements that nobody has acknowledged, so many times: nothing arrives.
UNHEARD: Final = 50
UNHEARD_TIMES: Final = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    word: Word
    score: float
    """Mean opinion score of the worse leg, 1 to 4.5."""
    leg: str
    """The one to blame: "up", "down", "both"; empty where there is nothing to blame."""


class Quality:
    """Of one participant."""

    __slots__ = ("_before", "_better", "_confirmed", "_facts", "_jitter", "_latest", "_unheard", "judgement")

    def __init__(self) -> None:
        self.judgement: Judgement | None = None  # None: too early
        self._latest: Link | None = None
        self._before: Link | None = None  # at the last judgement
        self._jitter = [0, 0]  # the worst since then, ms: up, down
        self._unheard = 0
        self._confirmed = False  # he reports what he receives; some clients never do
        self._better = 0
        self._facts: dict[str, Any] = {}

    def measure(self, link: Link) -> None:
        self._latest = link
        self._jitter = [max(self._jitter[0], link.up.jitter_ms), max(self._jitter[1], link.down.jitter_ms)]

    def judge(self) -> None:
        """Every `INTERVAL`."""
        latest, before = self._latest, self._before
        self._before = latest
        if latest is None or before is None:
            return
        delay = (latest.round_trip_ms or 0) / 2
        legs = {}
        for name, now, then, jitter in (
            ("up", latest.up, before.up, self._jitter[0]),
            ("down", latest.down, before.down, self._jitter[1]),
        ):
            loss = _loss(now, then)
            legs[name] = _rating(loss, delay + 2 * jitter + BUFFER)
            self._facts[name] = {"loss_percent": round(loss, 1), "jitter_ms": jitter, "rating": round(legs[name])}
        self._jitter = [0, 0]
        heard = latest.down.expected > before.down.expected
        self._confirmed |= heard
        missing = self._confirmed and not heard and latest.sent - before.sent >= UNHEARD
        self._unheard = self._unheard + 1 if missing else 0
        lost = {"up": latest.silent_ms >= SILENT_MS, "down": self._unheard >= UNHEARD_TIMES}
        self._facts["silent_ms"], self._facts["round_trip_ms"] = latest.silent_ms, latest.round_trip_ms
        self._settle(_judgement(legs, lost))

    def _settle(self, new: Judgement) -> None:
        old = self.judgement
        better = old is not None and _BADNESS[new.word] < _BADNESS[old.word]
        self._better = self._better + 1 if better else 0
        if not better or self._better >= PATIENCE:
            self._better = 0
            self.judgement = new

    def debug_state(self) -> dict[str, Any]:
        judgement = self.judgement
        if judgement is None:
            return {"word": None}
        word = Word.Name(judgement.word).lower()
        return {"word": word, "score": round(judgement.score, 1), "leg": judgement.leg or None, **self._facts}


_BADNESS: Final = {Word.EXCELLENT: 0, Word.GOOD: 1, Word.POOR: 2, Word.LOST: 3}


def _loss(now: Leg, then: Leg) -> float:
    """Percent."""
    return 100 * (now.lost - then.lost) / max(now.expected - then.expected, EVIDENCE)


def _rating(loss: float, delay: float) -> float:
    """R of the E-model; `delay` in ms, one way. Beyond 160 ms each of them weighs four times as much."""
    impairment = delay / 40 if delay < 160 else (delay - 120) / 10
    return max(0.0, BEST - impairment - LOSS * loss)


def _judgement(legs: dict[str, float], lost: dict[str, bool]) -> Judgement:
    gone = [name for name, is_lost in lost.items() if is_lost]
    if gone:
        return Judgement(Word.LOST, 1.0, gone[0] if len(gone) == 1 else "both")
    rating = min(legs.values())
    word = Word.EXCELLENT if rating >= EXCELLENT else Word.GOOD if rating >= GOOD else Word.POOR
    # Where the legs differ by less than what one lost packet in fifty makes, none of them is to blame alone.
    to_blame = [name for name, of_leg in legs.items() if of_leg < rating + 2 * LOSS]
    leg = "" if word == Word.EXCELLENT else to_blame[0] if len(to_blame) == 1 else "both"
    score = 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6  # G.107 Annex B
    return Judgement(word, max(1.0, score), leg)
