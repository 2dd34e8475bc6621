"""One source offered to a room by one participant: camera, microphone, screen or its sound.

It begins as a promise (`add_track`, state PENDING) and becomes media when an offer carries it (BOUND). What others
see is its `TrackInfo`; what the engine knows is its `PublicationSpec`. Who may subscribe is the room's business.

The same source in a second codec is its `backup` (backup.py): another publication for negotiation and engine, with the
sid and the `TrackInfo` of the first.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models, rtc

from d4e_sfu._engine import Codec, PublicationSpec
from d4e_sfu.config import CodecName, Source
from d4e_sfu.core import policy
from d4e_sfu.core.bindings import PendingTrack
from d4e_sfu.core.weights import Weights

if TYPE_CHECKING:
    from d4e_sfu.core.boundary import PublicationId
    from d4e_sfu.core.encodings import Use
    from d4e_sfu.core.negotiation import Published
    from d4e_sfu.core.participant import Participant

CODECS: Final = {
    CodecName.OPUS: Codec.Opus,
    CodecName.VP8: Codec.Vp8,
    CodecName.H264: Codec.H264,
    CodecName.VP9: Codec.Vp9,
    CodecName.AV1: Codec.Av1,
    CodecName.PCMU: Codec.Pcmu,
    CodecName.PCMA: Codec.Pcma,
}
MIME_TYPES: Final = {
    Codec.Opus: "audio/opus",
    Codec.Vp8: "video/VP8",
    Codec.H264: "video/H264",
    Codec.Vp9: "video/VP9",
    Codec.Av1: "video/AV1",
    Codec.Pcmu: "audio/PCMU",
    Codec.Pcma: "audio/PCMA",
}
# Codecs in which one stream may hold several spatial layers.
_SCALABLE: Final = (Codec.Vp9, Codec.Av1)

# The last letters of a publication's sid tell its kind and source at a glance in a log.
_SOURCE_LETTERS: Final = {
    models.TrackSource.CAMERA: "C",
    models.TrackSource.MICROPHONE: "M",
    models.TrackSource.SCREEN_SHARE: "S",
    models.TrackSource.SCREEN_SHARE_AUDIO: "s",
}
_SCREEN: Final = (models.TrackSource.SCREEN_SHARE, models.TrackSource.SCREEN_SHARE_AUDIO)

# Heights of the three qualities where a publisher has not told: what a web client sends of a 720p camera.
_DEFAULT_HEIGHTS: Final = (180, 360, 720)
# A want of 100 pixels is served by 90: the eye does not see the difference, the link does.
_TOLERANCE: Final = 0.9

MAX_LAYERS: Final = 3
MAX_NAME: Final = 256  # characters


class PublicationState(enum.Enum):
    NAMED = "named"  # as a backup: nobody has needed it yet, and nothing announces its section
    PENDING = "pending"  # announced by add_track, no section yet
    BOUND = "bound"  # a section carries it; the engine forwards it


def sid_prefix(request: rtc.AddTrackRequest) -> str:
    kind = "A" if request.type == models.TrackType.AUDIO else "V"
    return f"TR_{kind}{_SOURCE_LETTERS.get(request.source, 'U')}"


class Publication:
    """`id` names it in the engine and is used once BOUND; `sid` names it for clients from the start."""

    __slots__ = (
        "asked_at",
        "backup",
        "cid",
        "codec_cids",
        "format",
        "heard",
        "heights",
        "id",
        "index",
        "info",
        "is_video",
        "is_voice",
        "max_bitrate",
        "publisher",
        "rids",
        "sizes",
        "source",
        "spec",
        "state",
        "use",
        "weights",
    )

    def __init__(
        self,
        id: PublicationId,
        publisher: Participant,
        info: models.TrackInfo,
        *,
        index: int = 0,
        cid: str = "",
        codec_cids: Sequence[str] = (),
        max_bitrate: int,
    ) -> None:
        """`index`: of its codec among those of `info`; 0, or 1 for a backup. The cids are the client's names for it."""
        self.id = id
        self.publisher = publisher
        self.info = info
        self.index = index
        self.cid = cid
        self.codec_cids = codec_cids
        self.max_bitrate = max_bitrate
        self.state = PublicationState.NAMED if index else PublicationState.PENDING
        self.spec: PublicationSpec | None = None
        self.backup: Publication | None = None
        self.asked_at: float | None = None  # for a backup: its publisher was told that somebody needs it
        # How many spatial layers there may be to choose from: encodings, or layers of the only one. What one stream of
        # a scalable codec holds, the engine sees; who asks for more than there is gets the highest.
        self.sizes = 1
        self.heard = False  # somebody has subscribed
        self.weights = Weights()
        self.use: Use | None = None
        self.format = ""  # the codec's a=fmtp, once BOUND
        # What it is stays; and it is asked for each viewer and picture a few times a second.
        self.is_video = info.type == models.TrackType.VIDEO
        self.source = _source(info.source, audio=not self.is_video)
        self.is_voice = self.source is Source.MICROPHONE
        self.heights: Sequence[int] = ()
        self.rids: tuple[str, ...] = ()
        self.read_layers()

    @property
    def sid(self) -> str:
        return self.info.sid

    @property
    def key(self) -> str:
        """How negotiation tells it from every other section's."""
        return f"{self.sid}/{self.index}" if self.index else self.sid

    @property
    def codec(self) -> models.SimulcastCodecInfo:
        """What others see of this codec of it."""
        return self.info.codecs[self.index]

    @property
    def codecs(self) -> Sequence[Publication]:
        """It, and its backup if it has one."""
        return (self,) if self.backup is None else (self, self.backup)

    @property
    def first(self) -> Publication:
        """The publication that this is the backup of, or itself."""
        return self.publisher.publications[self.sid] if self.index else self

    def withdraw(self) -> None:
        """Its sections carry it no more, whatever the client goes on with."""
        negotiation = self.publisher.sending.negotiation
        assert negotiation is not None
        for each in self.codecs:
            negotiation.withdraw(each.key)

    def read_layers(self) -> None:
        """What its publisher has said of the sizes."""
        layers = self.codec.layers or self.info.layers
        self.heights = _heights(self.info, layers)
        self.rids = tuple(layer.rid for layer in layers if layer.rid)

    @property
    def is_simulcast(self) -> bool:
        """Several encodings, with names by which each can be paused."""
        return self.spec is not None and len(self.spec.encodings) > 1 and self.spec.encodings[0].rid is not None

    def bind(self, published: Published) -> None:
        """An offer carries it: the facts of its section."""
        spec = published.spec
        self.state = PublicationState.BOUND
        self.spec = spec
        scalable = len(spec.encodings) == 1 and spec.codec in _SCALABLE
        self.sizes = MAX_LAYERS if scalable else len(spec.encodings)
        self.format = published.format
        codec = self.codec
        codec.mime_type, codec.mid, codec.sdp_cid = MIME_TYPES[spec.codec], spec.mid, published.sdp_cid
        if self.is_video:
            mode = models.VideoLayer.Mode
            codec.video_layer_mode = (
                mode.MULTIPLE_SPATIAL_LAYERS_PER_STREAM if scalable else mode.ONE_SPATIAL_LAYER_PER_STREAM
            )
        if self.index == 0:
            self.info.mid, self.info.mime_type = codec.mid, codec.mime_type
            self.info.simulcast = len(spec.encodings) > 1
            if self.backup is not None and self.backup.codec.mime_type == codec.mime_type:
                self.backup = None  # his client knows no other after all
                del self.info.codecs[1:]

    def pending(self) -> PendingTrack:
        """As negotiation sees it while no section carries it."""
        return PendingTrack(
            sid=self.key,
            cid=self.cid,
            kind="video" if self.is_video else "audio",
            mime_type=self.codec.mime_type,
            max_bitrate=self.max_bitrate,
            codec_cids=self.codec_cids,
            rids=self.rids,
            dtx=not self.info.disable_dtx,
            stereo=self.info.stereo,
            red=not self.info.disable_red,
            opus_bitrate=self.publisher.room.policy.voice_bitrate if self.is_voice else None,
        )

    def resize(self, width: int, height: int) -> None:
        """The publisher's own picture has changed size."""
        self.info.width, self.info.height = width, height
        for each in self.codecs:
            each.read_layers()

    def layer_for_quality(self, quality: models.VideoQuality) -> int:
        """Spatial layer for LOW, MEDIUM, HIGH; with fewer of them, the highest there is."""
        return min(max(int(quality), 0), self.sizes - 1)

    def layer_for_size(self, width: int, height: int) -> int:
        """The smallest spatial layer that fills a view of this size, by its shorter side.

        Portrait and landscape are the same picture turned, and a view crops: so the short side decides.
        """
        wanted = min(width, height) * _TOLERANCE
        available = self.heights[: self.sizes]
        for index, size in enumerate(available):
            if size >= wanted:
                return index
        return self.sizes - 1

    def debug_state(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "sid": self.sid,
            "source": models.TrackSource.Name(self.info.source).lower(),
            "state": self.state.value,
            "muted": self.info.muted,
            "mime_type": self.codec.mime_type,
            "encodings": len(self.spec.encodings) if self.spec else 1,
            "heights": list(self.heights),
            "max_bitrate": self.max_bitrate,
        }


def track_info(sid: str, request: rtc.AddTrackRequest, mime_types: Sequence[str], *, red: bool) -> models.TrackInfo:
    """What others see. Sizes and layers are the publisher's claims: they only choose a layer. `mime_types`: its codec,
    and that of its backup if it has one; a client publishes with the first, whatever it asked for."""
    video = request.type == models.TrackType.VIDEO
    layers = request.layers[:MAX_LAYERS] if video else []
    asked = request.simulcast_codecs[0] if request.simulcast_codecs else None
    if video and not layers and asked is not None:
        layers = asked.layers[:MAX_LAYERS]
    info = models.TrackInfo(
        sid=sid,
        type=request.type,
        source=request.source,
        name=request.name[:MAX_NAME],
        muted=request.muted,
        width=request.width if video else 0,
        height=request.height if video else 0,
        layers=layers,
        simulcast=len(layers) > 1,
        mime_type=mime_types[0],
        stream=request.stream[:MAX_NAME] or ("screen" if request.source in _SCREEN else "camera"),
        disable_dtx=request.disable_dtx,
        stereo=request.stereo,
        # The SDKs encrypt a packet of redundant audio as a whole: no frame can be taken out of it for who knows no RED.
        disable_red=request.disable_red or not red or request.encryption != models.Encryption.Type.NONE,
        encryption=request.encryption,
        audio_features=request.audio_features[:16],
        backup_codec_policy=request.backup_codec_policy,
    )
    info.codecs.add(mime_type=mime_types[0], cid=request.cid, layers=layers)
    for mime_type in mime_types[1:]:
        info.codecs.add(mime_type=mime_type)
    return info


def _source(source: models.TrackSource, *, audio: bool) -> Source:
    known = policy.source_of(source, audio=audio)
    assert known is not None, "it was promised by what it shows"
    return known


def _heights(info: models.TrackInfo, layers: Iterable[models.VideoLayer]) -> Sequence[int]:
    """Short side of each spatial layer, lowest first."""
    known = sorted(min(layer.width, layer.height) for layer in layers if layer.width and layer.height)
    if known:
        return known + [known[-1]] * (MAX_LAYERS - len(known))
    if info.width and info.height:
        short = min(info.width, info.height)
        return [short // 4, short // 2, short]
    return _DEFAULT_HEIGHTS
