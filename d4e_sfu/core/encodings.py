"""Which encodings of a publication somebody uses; the others are paused at the publisher, whose link is the weakest.

Up at once: somebody waits. Down after a delay: a view that is closed and opened again must not cost a keyframe. While
nobody has subscribed at all the lowest goes on, so that whoever comes sees a picture at once; once there are viewers
and none of them wants any, all are paused. A client that does not know this message goes on sending.

The second codec of a publication (backup.py) is off until it is used, and is asked for by the same message. What has no
encodings that could be paused one by one is on or off as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from livekit.protocol import models, rtc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
    """Of one publication in one codec."""

    __slots__ = ("_used_at", "told")

    def __init__(self, told: frozenset[int] | None, *, now: float) -> None:
        self.told = told  # the encodings that are on; None: as it began, all
        self._used_at: dict[int, float] = {}
        if told is None:
            self._used_at.update((encoding, now) for encoding in range(len(_QUALITIES)))

    def look(self, used: set[int], *, now: float) -> frozenset[int]:
        """Which are to be on."""
        self._used_at.update((encoding, now) for encoding in used)
        return frozenset(encoding for encoding, at in self._used_at.items() if now - at < DELAY)


def forget(publication: Publication) -> None:
    """Its publisher may have missed what he was told last."""
    for codec in publication.codecs:
        if codec.use is not None:
            codec.use.told = _UNSURE


def tell(participants: Iterable[Participant], *, now: float) -> None:
    """Each publisher what has changed for him."""
    used: dict[Publication, set[int]] = {}
    for participant in participants:
        for subscription in participant.subscriptions.values():
            publication = subscription.publication
            if subscription.mid is None and publication.spec is not None:
                continue
            layers = used.setdefault(publication, set())
            layer = subscription.wanted_layer() if publication.spec is None else subscription.layer()[0]
            if layer is not None:
                layers.add(layer)
    for participant in participants:
        for publication in participant.publications.values():
            if publication.is_simulcast or publication.backup is not None:
                _tell(publication, used, now=now)


def _tell(publication: Publication, used: Mapping[Publication, set[int]], *, now: float) -> None:
    if publication.spec is None:
        return
    watched = any(codec in used for codec in publication.codecs)
    changed = False
    for codec in publication.codecs:
        first = codec is publication
        if codec.use is None:
            codec.use = Use(None if first else frozenset(), now=now)
        on = _on(codec, codec.use.look(used.get(codec, set() if watched or not first else {0}), now=now))
        if on == codec.use.told or (codec.use.told is None and len(on) == len(_rids(codec))):
            continue
        changed = True
        codec.use.told = on
        codec.asked_at = None if codec.spec is not None or not on else codec.asked_at or now
    if changed:
        codecs = [_subscribed(codec) for codec in publication.codecs]
        publication.publisher.send(
            rtc.SignalResponse(
                subscribed_quality_update=rtc.SubscribedQualityUpdate(
                    track_sid=publication.sid,
                    subscribed_qualities=codecs[0].qualities,  # for clients that know one codec only
                    subscribed_codecs=codecs,
                )
            )
        )


def _on(codec: Publication, used: frozenset[int]) -> frozenset[int]:
    """Of its encodings; all of them where they are one stream, or not there yet."""
    count = len(_rids(codec))
    if not codec.is_simulcast:
        return frozenset(range(count)) if used else frozenset()
    return frozenset(encoding for encoding in used if encoding < count)


def _rids(codec: Publication) -> Sequence[str]:
    if codec.spec is None or not codec.is_simulcast:
        return list(_QUALITIES)
    return [encoding.rid or "" for encoding in codec.spec.encodings]


def _subscribed(codec: Publication) -> rtc.SubscribedCodec:
    use = codec.use
    assert use is not None
    return rtc.SubscribedCodec(
        codec=codec.codec.mime_type.partition("/")[2].lower(),
        qualities=[
            rtc.SubscribedQuality(quality=_QUALITIES[rid], enabled=use.told is None or at in use.told)
            for at, rid in enumerate(_rids(codec))
            if rid in _QUALITIES
        ],
    )
