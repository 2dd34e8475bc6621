"""What is told of rooms to servers outside (webhooks): one function for each thing that happens, made into its message.

The messages are the room protocol's own (`WebhookEvent`). They say names, because whoever operates the server has named
who is told; so they go to `Announcer.report` alone, never to the log. Nothing is made where nobody is told. The
announcement for our own records is made here too where both go together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from livekit.protocol import models, webhook

if TYPE_CHECKING:
    from d4e_sfu.core.boundary import Announcer
    from d4e_sfu.core.participant import Participant
    from d4e_sfu.core.publication import Publication
    from d4e_sfu.core.room import Room

EVENTS: Final = (
    "room_started",
    "room_finished",
    "participant_joined",
    "participant_left",
    "participant_connection_aborted",
    "track_published",
    "track_unpublished",
)
Ended = models.RoomEndReason


def room_started(room: Room) -> None:
    room.announcer.report(lambda: webhook.WebhookEvent(event="room_started", room=room.info()))


def room_finished(room: Room, reason: models.RoomEndReason) -> None:
    room.announcer.report(lambda: webhook.WebhookEvent(event="room_finished", room=room.info(), room_end_reason=reason))


def participant_active(announcer: Announcer, participant: Participant, *, now: float) -> None:
    """His media can flow: for those outside he has joined only now."""
    room, seconds = participant.room, now - participant.joined_at
    facts: dict[str, str | float] = {"room": room.sid, "participant": participant.sid, "seconds": seconds}
    announcer.announce("participant_active", facts)
    announcer.report(
        lambda: webhook.WebhookEvent(event="participant_joined", room=room.info(), participant=participant.info())
    )


def participant_left(
    announcer: Announcer, participant: Participant, reason: models.DisconnectReason, *, cause: str = ""
) -> None:
    """Who goes before his media could flow has never joined, for those outside."""
    room = participant.room
    cause = cause or models.DisconnectReason.Name(reason).lower()
    announcer.announce("participant_left", {**participant.who, "reason": cause})
    event = "participant_connection_aborted" if participant.active_at is None else "participant_left"
    announcer.report(
        lambda: webhook.WebhookEvent(
            event=event, room=room.info(), participant=participant.info(disconnect_reason=reason)
        )
    )


def track_published(announcer: Announcer, publication: Publication) -> None:
    _track(announcer, "track_published", publication)


def track_unpublished(announcer: Announcer, publication: Publication) -> None:
    _track(announcer, "track_unpublished", publication)


def _track(announcer: Announcer, event: str, publication: Publication) -> None:
    """Of its publisher only who he is: all that he publishes would be said again with each of it."""
    publisher = publication.publisher
    announcer.report(
        lambda: webhook.WebhookEvent(
            event=event,
            room=models.Room(sid=publisher.room.sid, name=publisher.room.name),
            participant=models.ParticipantInfo(sid=publisher.sid, identity=publisher.identity, name=publisher.name),
            track=publication.info,
        )
    )
