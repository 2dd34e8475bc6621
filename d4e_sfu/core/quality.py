"""How good one participant's link is, and what is to blame where it is not: what the engine has counted → a word, a
score, a leg, a cause.

Two legs: `up` from the client to us (judged by what came here) and `down` from us to the client (judged by his receiver
reports, and by what his feedback tells of the queue before him). Each is rated by loss, jitter and delay with the
E-model of ITU-T G.107 in its usual short form; the worse leg counts. The usual delay of a link is half of each leg's;
what comes on top of it is somebody's queue. The word falls at once and rises only when it has stayed better, so that a
badge does not flicker. Who is told is in audience.py.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models

if TYPE_CHECKING:
    from d4e_sfu._engine import Estimate, Leg, Link

Word = models.ConnectionQuality

# The engine tells this often, s (LINKS_INTERVAL in its router/measure.rs); judged as often.
INTERVAL: Final = 2.0
# It is better when it has been better so many times in a row.
PATIENCE: Final = 5
# G.107 Annex B: from 80 users are satisfied, from 60 on many are not.
EXCELLENT: Final = 80.0
GOOD: Final = 60.0
BEST: Final = 93.2  # what the E-model gives to a call without any fault
LOSS: Final = 2.5  # points for each percent lost
BUFFER: Final = 10.0  # ms; what a receiver adds of its own
# Of fewer packets than this one that is lost says little: a silent voice sends two or three a second. They are waited
# for, as long as the longest interval between two reports about a voice.
EVIDENCE: Final = 50
LONGEST: Final = 3  # judgements
# Clients prove every 6 s at the latest that they are there (RFC 7675 §5.1).
SILENT_MS: Final = 10_000
# Packets sent between two judgements that nobody has acknowledged, so many times: nothing arrives.
UNHEARD: Final = 20
UNHEARD_TIMES: Final = 5
# Delay beyond the usual, or jitter, that is no weather but a queue, ms: a voice notices it.
QUEUED: Final = 60
# A path that has become longer for good is the usual one after so many judgements.
MEMORY: Final = 30
# His voice is on, his client is there, and nothing of his has come so many times: even silence sends two a second.
DUMB_TIMES: Final = 2
ALIVE_MS: Final = 4_000
# Share of its core from which on a worker no longer reads in time what comes.
BUSY: Final = 0.95


class Cause(StrEnum):
    NONE = ""
    LOSS = "loss"
    """Packets vanish on that leg."""
    QUEUE = "queue"
    """They wait on that leg, or there is no more room for them: more is sent than it carries."""
    SENDER = "sender"
    """His client sends nothing, though the link would carry it."""
    SERVER = "server"
    """We are too busy."""


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    word: Word
    score: float
    """Mean opinion score of the worse leg, 1 to 4.5."""
    leg: str = ""
    """The one to blame: "up", "down", "both"; empty where there is nothing to blame, or no leg."""
    cause: Cause = Cause.NONE

    @property
    def said(self) -> tuple[Word, str, Cause]:
        """What others can tell it from another by."""
        return self.word, self.leg, self.cause


@dataclasses.dataclass(slots=True)
class _Rated:
    """One leg: since when the next rating counts, and the last one."""

    since: Leg | None = None
    waited: int = 0
    loss: float = 0.0
    queued: float = 0.0  # ms
    rating: float = BEST

    def rate(self, leg: Leg, *, jitter: int, delay: float, queued: float) -> None:
        if self.since is None:
            self.since = leg
        self.waited += 1
        expected = leg.expected - self.since.expected
        if expected >= EVIDENCE or self.waited >= LONGEST:
            self.loss = 100 * (leg.lost - self.since.lost) / max(expected, EVIDENCE)
            self.since, self.waited = leg, 0
        self.queued = max(queued, jitter)
        self.rating = _rating(self.loss, delay + queued + 2 * jitter + BUFFER)

    @property
    def cause(self) -> Cause:
        # A full queue drops as well: where there is one, it is the cause. What is far away has none.
        return Cause.QUEUE if self.queued >= QUEUED else Cause.LOSS if self.loss >= 1 else Cause.NONE


class Quality:
    """Of one participant."""

    __slots__ = (
        "_before",
        "_better",
        "_confirmed",
        "_dumb",
        "_facts",
        "_jitter",
        "_latest",
        "_legs",
        "_queue",
        "_round_trips",
        "_unheard",
        "_waited",
        "judgement",
    )

    def __init__(self) -> None:
        self.judgement: Judgement | None = None  # None: too early
        self._latest: Link | None = None
        self._before: Link | None = None  # at the last judgement
        self._legs = {"up": _Rated(), "down": _Rated()}
        self._jitter = [0, 0]  # the worst since then, ms: up, down
        self._waited = 0  # the longest on the way to us since then, ms
        self._queue: int | None = None  # the longest before him since then, ms; None: his client does not tell
        self._round_trips: list[int] = []
        self._unheard = 0
        self._dumb = 0
        self._confirmed = False  # he reports what he receives; some clients never do
        self._better = 0
        self._facts: dict[str, Any] = {}

    def measure(self, link: Link) -> None:
        self._latest = link
        self._jitter = [max(self._jitter[0], link.up.jitter_ms), max(self._jitter[1], link.down.jitter_ms)]
        self._waited = max(self._waited, link.up.queue_ms)

    def estimated(self, estimate: Estimate) -> None:
        self._queue = max(self._queue or 0, estimate.queue_ms)

    @property
    def is_news(self) -> bool:
        """Something was measured since the last judgement."""
        return self._latest is not self._before

    def judge(self, *, sends: bool = False, busy: float | None = None) -> None:
        """When something was measured. `sends`: a voice of his is on. `busy`: share of a core that his worker uses."""
        latest, before = self._latest, self._before
        self._before = latest
        if latest is None:
            return
        usual, up, down = self._delays(latest)
        for name, leg, jitter, queued in (
            ("up", latest.up, self._jitter[0], up),
            ("down", latest.down, self._jitter[1], down),
        ):
            rated = self._legs[name]
            rated.rate(leg, jitter=jitter, delay=usual / 2, queued=queued)
            self._facts[name] = {
                "loss_percent": round(rated.loss, 1),
                "jitter_ms": jitter,
                "queue_ms": round(queued),
                "rating": round(rated.rating),
            }
        self._jitter, self._waited, self._queue = [0, 0], 0, None
        self._facts["silent_ms"], self._facts["round_trip_ms"] = latest.silent_ms, latest.round_trip_ms
        if before is None:
            return
        heard = latest.down.expected > before.down.expected
        self._confirmed |= heard
        missing = self._confirmed and not heard and latest.sent - before.sent >= UNHEARD
        self._unheard = self._unheard + 1 if missing else 0 if heard else self._unheard
        dumb = sends and latest.silent_ms < ALIVE_MS and 0 < latest.up.expected == before.up.expected
        self._dumb = self._dumb + 1 if dumb else 0
        self._settle(self._judgement(latest, busy))

    def _delays(self, link: Link) -> tuple[float, float, float]:
        """The usual round trip, and what waits up and down beyond it, all in ms."""
        up, down = float(self._waited), float(self._queue or 0)
        if link.round_trip_ms is None:
            return 0.0, up, down
        self._round_trips = [*self._round_trips[1 - MEMORY :], link.round_trip_ms]
        usual = min(self._round_trips)
        # What the way to us does not explain waits on the way to him, though his feedback may not tell it.
        return usual, up, max(down, link.round_trip_ms - usual - up)

    def _judgement(self, link: Link, busy: float | None) -> Judgement:
        gone = [name for name, is_lost in (
            ("up", link.silent_ms >= SILENT_MS), ("down", self._unheard >= UNHEARD_TIMES)) if is_lost]  # fmt: skip
        if gone:
            return Judgement(Word.LOST, 1.0, gone[0] if len(gone) == 1 else "both", Cause.LOSS)
        rating = min(leg.rating for leg in self._legs.values())
        score = max(1.0, 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6)  # G.107 Annex B
        if self._dumb >= DUMB_TIMES:
            return Judgement(Word.POOR, score, "up", Cause.SENDER)
        word = Word.EXCELLENT if rating >= EXCELLENT else Word.GOOD if rating >= GOOD else Word.POOR
        if word == Word.EXCELLENT:
            return Judgement(word, score)
        if busy is not None and busy >= BUSY:
            return Judgement(word, score, cause=Cause.SERVER)
        # Where the legs differ by less than what one lost packet in fifty makes, none of them is to blame alone.
        to_blame = [name for name, leg in self._legs.items() if leg.rating < rating + 2 * LOSS]
        worst = min(self._legs.values(), key=lambda leg: leg.rating)
        return Judgement(word, score, to_blame[0] if len(to_blame) == 1 else "both", worst.cause)

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
        blame = {"leg": judgement.leg or None, "cause": judgement.cause or None}
        return {"word": word, "score": round(judgement.score, 1), **blame, **self._facts}


_BADNESS: Final = {Word.EXCELLENT: 0, Word.GOOD: 1, Word.POOR: 2, Word.LOST: 3}


def _rating(loss: float, delay: float) -> float:
    """R of the E-model; `delay` in ms, one way. Beyond 160 ms each of them weighs four times as much."""
    impairment = delay / 40 if delay < 160 else (delay - 120) / 10
    return max(0.0, BEST - impairment - LOSS * loss)
