"""One person or device in a room: who he is, what he may do, how far his connection has come, what he sends and wants.

State and the messages that tell of it; what happens between participants is in room.py.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from livekit.protocol import models, rtc

from d4e_sfu._engine import Command
from d4e_sfu.config import Source
from d4e_sfu.core.allowance import Allowance
from d4e_sfu.core.bandwidth import Bandwidth
from d4e_sfu.core.datapacket import Mail
from d4e_sfu.core.permission import Permission
from d4e_sfu.core.publication import PublicationState
from d4e_sfu.core.quality import Cause, Quality, Word
from d4e_sfu.core.sections import SectionsRequirement
from d4e_sfu.core.simulation import Simulated

if TYPE_CHECKING:
    from d4e_sfu.config import DataLimits
    from d4e_sfu.core.bindings import PendingTrack
    from d4e_sfu.core.boundary import Client, TransportId
    from d4e_sfu.core.dual import Template, Uplink
    from d4e_sfu.core.negotiation import LocalTransport, Negotiation, RemoteTransport
    from d4e_sfu.core.policy import Rights
    from d4e_sfu.core.publication import Publication
    from d4e_sfu.core.refresh import Refreshed
    from d4e_sfu.core.room import Room
    from d4e_sfu.core.subscription import Subscription
    from d4e_sfu.core.tokens import Grants

# The number that the client's messages may assume at most; the meaning of each is in the protocol's own list.
PROTOCOL: Final = 16
# The participant attribute that tells everybody the role that policy has given.
ROLE_ATTRIBUTE: Final = "d4e.role"
# "true" for whoever may moderate: his page then shows the controls, and the others see whom to ask.
MODERATOR_ATTRIBUTE: Final = "d4e.moderator"
# Not empty while he raises his hand. Anyone sets his own, whether or not he may change other attributes: to ask for the
# floor is no right to give. A moderator lowers it with UpdateParticipant.
HAND_ATTRIBUTE: Final = "d4e.hand"

# An offer costs us milliseconds. A client makes one for each change, and one for each `media_sections_requirement`.
OFFERS_PER_SECOND: Final = 10
OFFER_BURST: Final = 40

# What a change of one participant costs is told to everyone, so it is his allowance: beyond it the others hear of
# several changes at once, twice a second. Less at once than what may wait for a slow reader; some 200 ordinary changes.
TOLD_BYTES_PER_SECOND: Final = 32 * 1024
TOLD_BURST: Final = 128 * 1024
# A new permission may change the subscriptions of everyone.
PERMISSIONS_PER_SECOND: Final = 2
PERMISSION_BURST: Final = 10

# A client may remember a stream that has ended; not for ever, and nor do we.
MAX_RETIRED_SSRCS: Final = 1024

# A client may subscribe before it (or we) heard of the publication; such a wish lasts a minute.
WISH_SECONDS: Final = 60.0
MAX_WISHES: Final = 256

_SOURCES: Final = {
    Source.CAMERA: models.TrackSource.CAMERA,
    Source.MICROPHONE: models.TrackSource.MICROPHONE,
    Source.SCREEN_SHARE: models.TrackSource.SCREEN_SHARE,
    Source.SCREEN_SHARE_AUDIO: models.TrackSource.SCREEN_SHARE_AUDIO,
}


_KINDS: Final[Mapping[str, models.ParticipantInfo.Kind]] = {
    "standard": models.ParticipantInfo.Kind.STANDARD,
    "ingress": models.ParticipantInfo.Kind.INGRESS,
    "egress": models.ParticipantInfo.Kind.EGRESS,
    "sip": models.ParticipantInfo.Kind.SIP,
    "agent": models.ParticipantInfo.Kind.AGENT,
    "connector": models.ParticipantInfo.Kind.CONNECTOR,
    "bridge": models.ParticipantInfo.Kind.BRIDGE,
}


class State(enum.Enum):
    """JOINED → ACTIVE → DISCONNECTED, or JOINED → DISCONNECTED. JOINING is the client's own, before he is told."""

    JOINED = models.ParticipantInfo.State.JOINED
    ACTIVE = models.ParticipantInfo.State.ACTIVE  # the transport is up
    DISCONNECTED = models.ParticipantInfo.State.DISCONNECTED


_TRANSITIONS: Final = {
    State.JOINED: {State.ACTIVE, State.DISCONNECTED},
    State.ACTIVE: {State.DISCONNECTED},
    State.DISCONNECTED: set[State](),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """What the client said of itself. `client_protocol` and `capabilities` are mirrored to the others."""

    protocol: int
    client_protocol: int
    capabilities: tuple[models.ClientInfo.Capability, ...]
    sdk: str
    auto_subscribe: bool
    adaptive_stream: bool

    @classmethod
    def from_join_request(cls, request: rtc.JoinRequest) -> Capabilities:
        info = request.client_info
        sdk = models.ClientInfo.SDK.Name(info.sdk) if info.sdk in models.ClientInfo.SDK.values() else "UNKNOWN"
        return cls(
            protocol=min(max(info.protocol, 0), PROTOCOL),
            client_protocol=info.client_protocol,
            capabilities=tuple(info.capabilities[:32]),
            sdk=sdk.lower(),
            auto_subscribe=request.connection_settings.auto_subscribe,
            adaptive_stream=request.connection_settings.adaptive_stream,
        )


class Participant:
    """Belongs to one room from `Room.enter` to `Room.leave`."""

    __slots__ = (
        "active_at",
        "attributes",
        "bandwidth",
        "client",
        "client_can",
        "closed_at",
        "forbidden",
        "grants",
        "identity",
        "joined_at",
        "joined_wall",
        "kind",
        "local",
        "lost_at",
        "mail",
        "metadata",
        "name",
        "negotiation",
        "offers",
        "permission",
        "permissions",
        "publications",
        "quality",
        "refreshed",
        "remote",
        "retired_ssrcs",
        "rights",
        "room",
        "sections",
        "sid",
        "simulated",
        "ssrcs",
        "state",
        "subscriptions",
        "syncing",
        "telling",
        "template",
        "told_quality",
        "transport",
        "unapplied",
        "untold",
        "untold_himself",
        "uplink",
        "version",
        "wishes",
    )

    def __init__(
        self,
        sid: str,
        room: Room,
        client: Client,
        *,
        grants: Grants,
        rights: Rights,
        client_can: Capabilities,
        data_limits: DataLimits,
        wall: float,
        now: float,
    ) -> None:
        self.sid = sid
        self.room = room
        self.client: Client | None = client  # None: the signalling is lost
        self.identity = grants.identity
        self.name = grants.name
        self.metadata = grants.metadata
        self.attributes: dict[str, str] = dict(grants.attributes)
        self.kind = _KINDS.get(grants.kind, models.ParticipantInfo.Kind.STANDARD)
        self.grants = grants  # of his token, with what a moderator has given and taken since
        self.rights = rights
        self.client_can = client_can
        self.state = State.JOINED
        self.version = 1
        self.joined_at = now
        self.joined_wall = wall
        self.active_at: float | None = None  # his transport has come up
        self.lost_at: float | None = None  # the signalling ended, media goes on
        self.syncing = False  # his signalling is back, and has not said yet what it knows
        self.closed_at: float | None = None  # the client has closed its transport, and has not said yet why
        self.transport: TransportId | None = None
        self.local: LocalTransport | None = None
        self.negotiation: Negotiation | None = None
        self.remote: RemoteTransport | None = None  # None until the first offer: the engine does not know him yet
        self.uplink: Uplink | None = None  # where he publishes, if on another connection; then we offer on this one
        self.template: Template | None = None
        self.permission = Permission()
        self.forbidden: set[str] = set()  # sids of publications that their publishers keep from him, as he was told
        self.wishes: dict[str, float] = {}  # sids subscribed to before they exist, with the time of it
        self.publications: dict[str, Publication] = {}  # by sid, in order of add_track
        self.subscriptions: dict[str, Subscription] = {}  # by the publication's sid, in order of subscribing
        self.ssrcs: set[int] = set()  # of the streams that he receives or has lately received
        self.retired_ssrcs: list[int] = []  # oldest first
        self.telling = Allowance(rate=TOLD_BYTES_PER_SECOND, burst=TOLD_BURST, now=now)
        self.untold = False  # he has changed, and the others hear of it at the next tick
        self.untold_himself = False  # and so does he
        self.permissions = Allowance(rate=PERMISSIONS_PER_SECOND, burst=PERMISSION_BURST, now=now)
        self.unapplied = False  # his permission has changed, and holds from the next tick
        self.sections = SectionsRequirement()
        self.offers = Allowance(rate=OFFERS_PER_SECOND, burst=OFFER_BURST, now=now)
        self.quality = Quality()
        self.bandwidth = Bandwidth()
        self.refreshed: Refreshed | None = None
        self.told_quality: dict[str, tuple[Word, str, Cause]] = {}  # by sid: what he was told of others, and himself
        self.mail = Mail(data_limits, now=now)
        self.simulated = Simulated()

    def become(self, state: State) -> None:
        assert state in _TRANSITIONS[self.state], f"{self.state} → {state}"
        self.state = state

    def changed(self) -> None:
        """Clients ignore information that is not newer than what they have."""
        self.version += 1

    def send(self, response: rtc.SignalResponse) -> None:
        if self.client is not None:
            self.client.send(response)

    def hang_up(
        self,
        reason: models.DisconnectReason,
        action: rtc.LeaveRequest.Action,
        *,
        code: int = 1000,
        sentence: str = "",
    ) -> None:
        """Tell the client that it is over, and what to do next; after that there is no client."""
        client, self.client = self.client, None
        if client is not None:
            client.send(leave(reason, action))
            client.close(code, sentence)

    def retire(self, subscription: Subscription) -> None:
        """It is over; its streams keep their numbers for a while."""
        self.ssrcs.difference_update(subscription.spare)
        self.keep((subscription.ssrc, subscription.rtx_ssrc))

    def keep(self, ssrcs: tuple[int, int]) -> None:
        """Nothing is sent under them any more, and nothing else yet."""
        self.retired_ssrcs.extend(ssrcs)
        excess = max(0, len(self.retired_ssrcs) - MAX_RETIRED_SSRCS)
        self.ssrcs.difference_update(self.retired_ssrcs[:excess])
        del self.retired_ssrcs[:excess]

    def wish(self, sid: str, *, now: float) -> None:
        """Remember that he wants a publication that does not exist yet."""
        self.wishes = {sid: then for sid, then in self.wishes.items() if now - then < WISH_SECONDS}
        if len(self.wishes) < MAX_WISHES:
            self.wishes[sid] = now

    def sections_due(self) -> list[PendingTrack]:
        """What he has announced and no section carries yet, oldest first."""
        return [codec.pending() for codec in self.by_key().values() if codec.state is PublicationState.PENDING]

    def by_key(self) -> dict[str, Publication]:
        """What he publishes, in each of its codecs, as negotiation names it."""
        return {codec.key: codec for publication in self.publications.values() for codec in publication.codecs}

    @property
    def sending(self) -> Participant | Uplink:
        """The connection on which he publishes."""
        return self.uplink or self

    def ends(self) -> Sequence[Participant | Uplink]:
        return (self,) if self.uplink is None else (self, self.uplink)

    def signal_lost(self, *, lost: bool) -> list[Command]:
        return [Command.SetSignalLost(end.transport, lost) for end in self.ends() if end.transport is not None]

    def hears(self) -> set[str]:
        """The sids of those of whom he receives something."""
        return {subscription.publication.publisher.sid for subscription in self.subscriptions.values()}

    @property
    def is_publisher(self) -> bool:
        return any(publication.spec is not None for publication in self.publications.values())

    @property
    def who(self) -> dict[str, str]:
        """For announcements: see `boundary.PERSONAL`."""
        return {
            "room": self.room.sid,
            "participant": self.sid,
            "identity": self.identity,
            "room_name": self.room.name,
            "role": self.rights.role,
        }

    def info(self, *, disconnect_reason: models.DisconnectReason | None = None) -> models.ParticipantInfo:
        """What everyone may know. Publications appear once a section carries them."""
        tracks = [publication.info for publication in self.publications.values() if publication.spec is not None]
        return models.ParticipantInfo(
            sid=self.sid,
            identity=self.identity,
            name=self.name,
            metadata=self.metadata,
            attributes=self._told_attributes(),
            state=self.state.value,
            tracks=tracks,
            joined_at=int(self.joined_wall),
            joined_at_ms=int(self.joined_wall * 1000),
            version=self.version,
            permission=self._rights_message(),
            is_publisher=bool(tracks),
            kind=self.kind,
            client_protocol=self.client_can.client_protocol,
            capabilities=self.client_can.capabilities,
            disconnect_reason=disconnect_reason,
        )

    def _told_attributes(self) -> dict[str, str]:
        """The client's own, then ours over them: a badge that a client could write would be trusted."""
        ours = {ROLE_ATTRIBUTE: self.rights.role, MODERATOR_ATTRIBUTE: "true" if self.rights.moderate else ""}
        return clean_attributes({**self.attributes, **ours})

    def _rights_message(self) -> models.ParticipantPermission:
        rights = self.rights
        return models.ParticipantPermission(
            can_subscribe=rights.subscribe,
            can_publish=bool(rights.publish),
            can_publish_data=rights.data,
            # An empty list would mean every source.
            can_publish_sources=sorted(_SOURCES[source] for source in rights.publish),
            hidden=rights.hidden,
            can_update_metadata=rights.update_own_metadata,
        )

    def debug_state(self) -> dict[str, Any]:
        """No name, no metadata, no token: an operator sees ids and states."""
        return {
            "sid": self.sid,
            "identity": self.identity,
            "role": self.rights.role,
            "state": self.state.name.lower(),
            "signalling": "lost" if self.client is None else "up",
            "sdk": self.client_can.sdk,
            "protocol": self.client_can.protocol,
            "version": self.version,
            "transport": self.transport,
            "uplink": None if self.uplink is None else self.uplink.transport,
            "ice": [end.local.ufrag for end in self.ends() if end.local is not None],
            "data_ready": sorted(kind.value for kind in self.mail.ready),
            "held_bytes": self.mail.held_bytes,
            "quality": self.quality.debug_state(),
            "bandwidth": self.bandwidth.debug_state(),
            "publications": [codec.debug_state() for codec in self.by_key().values()],
            "subscriptions": [subscription.debug_state() for subscription in self.subscriptions.values()],
        }


def leave(reason: models.DisconnectReason, action: rtc.LeaveRequest.Action) -> rtc.SignalResponse:
    # Clients below protocol 13 read only can_reconnect.
    return rtc.SignalResponse(
        leave=rtc.LeaveRequest(reason=reason, action=action, can_reconnect=action != rtc.LeaveRequest.Action.DISCONNECT)
    )


def clean_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """An empty value is none."""
    return {key: value for key, value in attributes.items() if value}
