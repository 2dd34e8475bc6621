"""Failures on demand (`SimulateScenario`), for whoever tests a client against a server; only where a setting allows it.

Each happens to the one who asks and to nobody else, and by the code that does it in earnest. What only a cluster or
another network can do is answered with a sentence that says so. Refused where `testing.simulate` is off, which it is
unless an operator turns it on.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from livekit.protocol import models, rtc

from d4e_sfu.core import bandwidth

if TYPE_CHECKING:
    from d4e_sfu.core.boundary import Announcer, Client
    from d4e_sfu.core.participant import Participant

Refusal = rtc.RequestResponse.Reason
Action = rtc.LeaveRequest.Action
Reason = models.DisconnectReason

# The longest speech that can be asked for, s.
MAX_SPEECH: Final = 60
# How loud it is, −dBov.
SPEECH_LEVEL: Final = 20
# IANA WebSocket close codes: what a server says that fails.
FAILURE: Final = 1011
REFUSED: Final = "This server simulates nothing: testing.simulate is off."


class Cut(enum.Enum):
    """What becomes of his next attempt to resume."""

    MUTE = "mute"
    """The connection ends before a word was said on it."""
    EARLY = "early"
    """It ends after all that he missed was said."""


@dataclasses.dataclass(slots=True)
class Simulated:
    """What was asked for, of one participant."""

    speaks_until: float = float("-inf")
    cut: Cut | None = None


def answer(
    participant: Participant, request: rtc.SimulateScenario, *, allowed: bool, announcer: Announcer, now: float
) -> None:
    """Do it, or say why not."""
    scenario = request.WhichOneof("scenario") or "none"
    event = "simulated" if allowed else "simulate_refused"
    announcer.announce(event, {"room": participant.room.sid, "participant": participant.sid, "scenario": scenario})
    if not allowed:
        _refuse(participant, Refusal.NOT_ALLOWED, REFUSED)
    elif scenario in _SCENARIOS:
        _SCENARIOS[scenario](participant, request, now)
    else:
        _refuse(participant, Refusal.UNSUPPORTED_TYPE, _ELSEWHERE.get(scenario, "There is no such scenario."))


def tick(participant: Participant, *, now: float) -> None:
    """He goes on speaking."""
    if now < participant.simulated.speaks_until:
        participant.room.speakers.hear(participant.sid, SPEECH_LEVEL, 1.0, now=now)


def takes(participant: Participant, client: Client) -> bool:
    """Whether this new connection of his fails before it is used."""
    if participant.simulated.cut is not Cut.MUTE:
        return False
    participant.simulated.cut = None
    client.close(FAILURE, "simulated")
    return True


def resumed(participant: Participant) -> None:
    """He has been told all that he missed."""
    if participant.simulated.cut is Cut.EARLY and participant.client is not None:
        participant.simulated.cut = None
        participant.client.close(FAILURE, "simulated")


def _speaker_update(participant: Participant, request: rtc.SimulateScenario, now: float) -> None:
    participant.simulated.speaks_until = now + min(max(request.speaker_update, 0), MAX_SPEECH)
    tick(participant, now=now)
    participant.room.tell_speakers(now=now)


def _node_failure(participant: Participant, request: rtc.SimulateScenario, now: float) -> None:
    """Nobody says goodbye, and whoever comes back to resume finds nothing."""
    client, participant.client = participant.client, None
    if client is not None:
        client.close(FAILURE, "simulated")
    participant.room.leave(participant, Reason.UNKNOWN_REASON, now=now)


def _server_leave(participant: Participant, request: rtc.SimulateScenario, now: float) -> None:
    participant.room.leave(participant, Reason.SERVER_SHUTDOWN, now=now)


def _full_reconnect(participant: Participant, request: rtc.SimulateScenario, now: float) -> None:
    participant.room.leave(participant, Reason.UNKNOWN_REASON, action=Action.RECONNECT, now=now)


def _bandwidth(participant: Participant, request: rtc.SimulateScenario, now: float) -> None:
    """His link carries no more than this, bits per second; 0 = whatever it does."""
    wanted = request.subscriber_bandwidth
    participant.bandwidth.cap = min(wanted, bandwidth.NO_ESTIMATE - 1) if wanted > 0 else None
    bandwidth.share(participant, at_once=True, now=now)


def _cut_early(participant: Participant, request: rtc.SimulateScenario, now: float) -> None:
    participant.simulated.cut = Cut.EARLY


def _cut_mute(participant: Participant, request: rtc.SimulateScenario, now: float) -> None:
    participant.simulated.cut = Cut.MUTE


def _refuse(participant: Participant, reason: rtc.RequestResponse.Reason, message: str) -> None:
    participant.send(rtc.SignalResponse(request_response=rtc.RequestResponse(reason=reason, message=message)))


_SCENARIOS: Final[Mapping[str, Callable[[Participant, rtc.SimulateScenario, float], None]]] = {
    "speaker_update": _speaker_update,
    "node_failure": _node_failure,
    "server_leave": _server_leave,
    "leave_request_full_reconnect": _full_reconnect,
    "subscriber_bandwidth": _bandwidth,
    "disconnect_signal_on_resume": _cut_early,
    "disconnect_signal_on_resume_no_messages": _cut_mute,
}
_ELSEWHERE: Final = {
    "migration": "This is the only server of its rooms: nobody is moved to another.",
    "switch_candidate_protocol": (
        "UDP, TCP and TLS are all offered at once, and the client takes what works: close UDP in the network instead."
    ),
}
