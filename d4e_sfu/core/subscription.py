"""One participant's receipt of one publication: what he wants of it, and where in his description it is placed.

Three layers: `wanted` is his own wish (size, quality, off), `share` is what his link and his room allow of it, and
`current` is what the engine really forwards: it switches at the next keyframe.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models, rtc

from d4e_sfu._engine import Command
from d4e_sfu.core.allocator import Reason
from d4e_sfu.core.placement import Outgoing
from d4e_sfu.core.weights import ALL_TEMPORAL_LAYERS

if TYPE_CHECKING:
    from d4e_sfu._engine import SubscriptionSpec
    from d4e_sfu.core.allocator import Share
    from d4e_sfu.core.boundary import SubscriptionId
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.publication import Publication

# Of `UpdateTrackSettings.priority`: "1 being the highest", 0 is not said.
PINNED: Final = 1
MAX_RANK: Final = 255
PAUSED: Final = (None, ALL_TEMPORAL_LAYERS)
_OFF: Final = models.VideoQuality.OFF


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A view's wish. A size wins over a quality; zero means not said."""

    disabled: bool = False
    quality: models.VideoQuality = models.VideoQuality.HIGH
    width: int = 0
    height: int = 0
    pinned: bool = False

    @classmethod
    def from_settings(cls, settings: rtc.UpdateTrackSettings) -> Wanted:
        pinned = settings.priority == PINNED
        return cls(settings.disabled, settings.quality, settings.width, settings.height, pinned)

    def off(self) -> Wanted:
        return dataclasses.replace(self, disabled=True)

    @property
    def short_side(self) -> int:
        return min(self.width, self.height)


def not_subscribed(sid: str, error: models.SubscriptionError) -> rtc.SignalResponse:
    """Why he does not get this publication."""
    return rtc.SignalResponse(subscription_response=rtc.SubscriptionResponse(track_sid=sid, err=error))


class Subscription:
    """`id` names it in the engine; it is there only while `mid` is set."""

    __slots__ = (
        "current",
        "id",
        "mid",
        "publication",
        "ranked",
        "redundant",
        "rtx_ssrc",
        "share",
        "spare",
        "ssrc",
        "steered",
        "subscriber",
        "waits",
        "wanted",
    )

    def __init__(
        self,
        id: SubscriptionId,
        publication: Publication,
        subscriber: Participant,
        *,
        ssrcs: tuple[int, int],
        spare: tuple[int, int],
        wanted: Wanted,
    ) -> None:
        self.id = id
        self.publication = publication
        self.subscriber = subscriber
        self.ssrc, self.rtx_ssrc = ssrcs
        self.spare = spare  # for the section that it moves to, should it have to
        self.wanted = wanted
        self.mid: str | None = None  # the section that carries it; None = waits for one
        self.redundant = False  # a voice's redundancy may be passed on to him
        self.share: Share | None = None  # None: as much as he wants
        self.waits = False  # for a first word of what his link carries
        self.current: int | None = None
        self.steered: tuple[int | None, int] = PAUSED  # what the engine was told
        self.ranked = 0  # so was this

    def move(self, *, spare: tuple[int, int]) -> None:
        """To another section, now or later: under SSRCs that have sent nothing yet."""
        self.ssrc, self.rtx_ssrc = self.spare
        self.spare = spare

    def place(self, spec: SubscriptionSpec) -> None:
        """A section carries it, and the engine is told."""
        self.mid = spec.mid
        self.redundant = spec.red_payload_type is not None
        self.steered = spec.spatial, spec.temporal
        self.ranked = 0

    def steer(self) -> list[Command]:
        """What the engine must hear, if anything."""
        if self.mid is None:
            return []
        commands: list[Command] = []
        layer, rank = self.layer(), self.rank()
        if layer != self.steered:
            self.steered = layer
            commands.append(Command.SetLayer(self.id, *layer))
        if rank != self.ranked:
            self.ranked = rank
            commands.append(Command.SetRank(self.id, rank))
        return commands

    def rank(self) -> int:
        """Among the voices, where only so many may pass."""
        limits = (self.subscriber.room.policy.voices, self.subscriber.bandwidth.places)
        if self.publication.is_video or limits == (None, None):
            return 0
        return MAX_RANK if self.wanted.pinned else self.publication.publisher.rights.priority

    def layer(self) -> tuple[int | None, int]:
        """Spatial and temporal layer for the engine; None = paused."""
        wanted, share = self.wanted_layer(), self.share
        if wanted is None:
            return PAUSED
        if share is None:
            # A new picture waits until it is known whether his link carries it.
            waits = self.publication.is_video and self.subscriber.bandwidth.budget is not None
            return PAUSED if waits or self.waits else (wanted, ALL_TEMPORAL_LAYERS)
        if share.spatial is None:
            return PAUSED
        if not self.publication.is_video or wanted < share.spatial:
            return wanted, ALL_TEMPORAL_LAYERS
        return share.spatial, share.temporal

    @property
    def reason(self) -> Reason:
        """Why he gets less than he wants."""
        return Reason.NONE if self.share is None else self.share.reason

    def wanted_layer(self) -> int | None:
        """Spatial layer that he wants; None = nothing, or there is nothing to have."""
        wanted = self.wanted
        if self.publication.info.muted:
            return None  # what everyone is shown as muted is not forwarded, whatever its publisher sends
        if wanted.disabled or (self.publication.is_video and wanted.quality == _OFF):
            return None
        if not self.publication.is_video:
            return 0
        if wanted.width and wanted.height:
            return self.publication.layer_for_size(wanted.width, wanted.height)
        return self.publication.layer_for_quality(wanted.quality)

    def outgoing(self) -> Outgoing:
        """As negotiation knows it."""
        publication = self.publication
        assert publication.spec is not None
        spatial, temporal = self.layer()
        return Outgoing(
            subscription=self.id,
            track_sid=publication.sid,
            participant_sid=publication.publisher.sid,
            kind="video" if publication.is_video else "audio",
            codec=publication.spec.codec,
            ssrc=self.ssrc,
            rtx_ssrc=self.rtx_ssrc,
            cname=publication.publisher.sid,
            spare=self.spare,
            format=publication.format,
            spatial=spatial,
            temporal=temporal,
        )

    def debug_state(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "publication": self.publication.sid,
            "publisher": self.publication.publisher.sid,
            "mid": self.mid,
            "ssrc": self.ssrc,
            "wanted_layer": self.wanted_layer(),
            "wanted": {**dataclasses.asdict(self.wanted), "quality": models.VideoQuality.Name(self.wanted.quality)},
            "layer": self.layer()[0],
            "temporal": self.layer()[1],
            "current": self.current,
            "reason": self.reason.value or None,
        }
