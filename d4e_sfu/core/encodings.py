"""Which encodings of a publication somebody uses; the others are paused at the publisher, whose link is the weakest.

Up at once: somebody waits. Down after a delay: a view that is closed and opened again must not cost a keyframe. While
nobody has subscribed at all the lowest goes on, so that whoever comes sees a picture at once; once there are viewers
and none of them wants any, all are paused. A client that does not know this message goes on sending.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from livekit.protocol import models, rtc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.publication import Publication

# So long has nobody used an encoding before it is paused, s.
DELAY: Final = 5.0
# The names that clients give to their encodings, and the words of the protocol for them.
_UNSURE: Final = frozenset({-1})  # like nothing that there is
_QUALITIES: Final = {
    "q": models.VideoQuality.LOW,
    "h": models.VideoQuality.MEDIUM,
    "f": models.VideoQuality.HIGH,
}


class Use:
    """Of one publication."""

    __slots__ = ("_used_at", "told")

    def __init__(self, *, now: float) -> None:
        self.told: frozenset[int] | None = None  # the encodings that are on; None: as it began, all
        self._used_at: dict[int, float] = {}
        self._used_at.update((encoding, now) for encoding in range(len(_QUALITIES)))

    def look(self, used: set[int], *, now: float) -> frozenset[int]:
        """Which are to be on."""
        self._used_at.update((encoding, now) for encoding in used)
        return frozenset(encoding for encoding, at in self._used_at.items() if now - at < DELAY)


def forget(publication: Publication) -> None:
    """Its publisher may have missed what he was told last."""
    if publication.use is not None:
        publication.use.told = _UNSURE


def tell(participants: Iterable[Participant], *, now: float) -> None:
    """Each publisher what has changed for him."""
    used: dict[Publication, set[int]] = {}
    for participant in participants:
        for subscription in participant.subscriptions.values():
            if not subscription.publication.is_simulcast or subscription.mid is None:
                continue
            layers = used.setdefault(subscription.publication, set())
            layer = subscription.layer()[0]
            if layer is not None:
                layers.add(layer)
    for participant in participants:
        for publication in participant.publications.values():
            if publication.is_simulcast:
                _tell(publication, used.get(publication, {0}), now=now)


def _tell(publication: Publication, used: set[int], *, now: float) -> None:
    assert publication.spec is not None
    if publication.use is None:
        publication.use = Use(now=now)
    count = len(publication.spec.encodings)
    on = frozenset(encoding for encoding in publication.use.look(used, now=now) if encoding < count)
    if on == publication.use.told or (publication.use.told is None and len(on) == count):
        return
    publication.use.told = on
    rids = [encoding.rid for encoding in publication.spec.encodings]
    qualities = [
        rtc.SubscribedQuality(quality=_QUALITIES[rid], enabled=at in on)
        for at, rid in enumerate(rids)
        if rid in _QUALITIES
    ]
    codec = publication.info.mime_type.partition("/")[2].lower()
    publication.publisher.send(
        rtc.SignalResponse(
            subscribed_quality_update=rtc.SubscribedQualityUpdate(
                track_sid=publication.sid,
                subscribed_qualities=qualities,  # for clients that know one codec only
                subscribed_codecs=[rtc.SubscribedCodec(codec=codec, qualities=qualities)],
            )
        )
    )
