"""One participant's receipt of one publication: what he wants of it, and where in his description it is placed.

`wanted` is his own wish (size, quality, off); the layer that the engine is told follows from it alone. Which layer
his link can carry is decided elsewhere.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models, rtc

if TYPE_CHECKING:
    from d4e_sfu.core.boundary import SubscriptionId
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.publication import Publication

ALL_TEMPORAL_LAYERS: Final = 255


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A view's wish. A size wins over a quality; zero means not said."""

    disabled: bool = False
    quality: models.VideoQuality = models.VideoQuality.HIGH
    width: int = 0
    height: int = 0

    @classmethod
    def from_settings(cls, settings: rtc.UpdateTrackSettings) -> Wanted:
        return cls(settings.disabled, settings.quality, settings.width, settings.height)


class Subscription:
    """`id` names it in the engine; it is there only while `mid` is set."""

    __slots__ = ("id", "mid", "publication", "rtx_ssrc", "spare", "ssrc", "subscriber", "wanted")

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

    def move(self, *, spare: tuple[int, int]) -> None:
        """To another section, now or later: under SSRCs that have sent nothing yet."""
        self.ssrc, self.rtx_ssrc = self.spare
        self.spare = spare

    def layer(self) -> int | None:
        """Spatial layer for the engine; None = paused."""
        wanted = self.wanted
        if self.publication.info.muted:
            return None  # what everyone is shown as muted is not forwarded, whatever its publisher sends
        if wanted.disabled or (self.publication.is_video and wanted.quality == models.VideoQuality.OFF):
            return None
        if not self.publication.is_video:
            return 0
        if wanted.width and wanted.height:
            return self.publication.layer_for_size(wanted.width, wanted.height)
        return self.publication.layer_for_quality(wanted.quality)

    def debug_state(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "publication": self.publication.sid,
            "publisher": self.publication.publisher.sid,
            "mid": self.mid,
            "ssrc": self.ssrc,
            "wanted": {**dataclasses.asdict(self.wanted), "quality": models.VideoQuality.Name(self.wanted.quality)},
            "layer": self.layer(),
        }
