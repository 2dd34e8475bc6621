"""Every Prometheus series, in one file: what it is called, what it means, where its number comes from.

The only door to prometheus-client. Nothing is counted here that is counted elsewhere: at scrape time it reads plain
counters of the nouns and the snapshots of the workers. Only what nobody else needs (how joins ended) is kept here, from
announcements. Label values are closed sets: never a room, a person or an address, so the number of series does not grow
with use.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from d4e_sfu.core.datapacket import REFUSALS
from d4e_sfu.drivers.counters import Counters, Histogram
from d4e_sfu.errors import ClientError, Forbidden, Full, RoomNotFound, TooLarge, TooMany, Unauthorized

PREFIX: Final = "d4e_sfu_"

# What becomes of a join: `connected` has its media, `failed` was let in and went before that; the rest was refused.
_REFUSALS: Final[Mapping[type[ClientError], str]] = {
    Unauthorized: "unauthorized",
    Forbidden: "forbidden",
    RoomNotFound: "room_not_found",
    Full: "full",
    TooLarge: "too_large",
    TooMany: "too_many",
}
JOIN_RESULTS: Final = ("connected", "failed", *_REFUSALS.values(), "bad_request", "internal")

RATES: Final = ("address_rate", "key_rate", "identity_rate")
MODERATIONS: Final = (
    "mute",
    "unmute",
    "update",
    "remove",
    "create_room",
    "delete_room",
    "room_metadata",
    "subscribe",
    "unsubscribe",
    "send_data",
)

# A reason is a word of ours, and there are few; should one ever carry something from outside, it ends here.
MAX_REASONS: Final = 64
_REASON: Final = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
OTHER: Final = "other"

# Counters of the engine (`engine/src/router/counters.rs`) → series. Packets and bytes are named by a rule of their own.
_TRAFFIC: Final = re.compile(r"(packets|bytes)_(received|sent)_([a-z]+)")
_ENGINE_COUNTERS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "keyframe_requests_received": ("keyframe_requests", {"direction": "received"}),
    "keyframe_requests_sent": ("keyframe_requests", {"direction": "sent"}),
    "pictures_from_cache": ("pictures_from_cache", {}),
    "nacks_received": ("packets_asked_again", {"direction": "received"}),
    "nacks_sent": ("packets_asked_again", {"direction": "sent"}),
    "packets_repaired": ("packets_repaired", {}),
    "packets_restored": ("packets_restored", {}),
    "redundant_bytes": ("redundant_bytes", {}),
    "layer_switches": ("layer_switches", {}),
    "packets_paced": ("packets_paced", {}),
    "paced_microseconds": ("paced_microseconds", {}),
    "pictures_held": ("pictures_held", {}),
    "probes": ("probes", {}),
    "checks_answered": ("ice_events", {"event": "check_answered"}),
    "checks_sent": ("ice_events", {"event": "check_sent"}),
    "path_changes": ("ice_events", {"event": "path_changed"}),
    "transports_gone": ("ice_events", {"event": "consent_expired"}),
    "commands_ignored": ("commands_ignored", {}),
}
_ENGINE_HELP: Final = {
    "packets": "Packets of the media port by direction and kind; rtx: retransmissions, probe: what only probes links.",
    "bytes": "Bytes of the media port, UDP payload, by direction and kind.",
    "keyframe_requests": "PLI and FIR: received from subscribers, sent to publishers.",
    "pictures_from_cache": "Joiners served with the cached picture instead of a keyframe request.",
    "packets_asked_again": "Packets asked for again (NACK): received from subscribers, sent to publishers.",
    "packets_repaired": "Gaps that a retransmission from a publisher closed.",
    "packets_restored": "Gaps that redundant audio of a publisher closed.",
    "redundant_bytes": "Added to voices for subscribers who lose packets.",
    "layer_switches": "Switches of a subscription to another encoding.",
    "packets_paced": "Packets of pictures that waited because a subscriber's link was the limit.",
    "paced_microseconds": "How long they waited, all together.",
    "pictures_held": "Pictures paused because a subscriber's link could not carry them.",
    "probes": "Probes sent to find out what a subscriber's link carries.",
    "ice_events": "ICE: checks answered, or sent where a client seems to be; paths chosen or moved; consents expired.",
    "commands_ignored": "Commands to the engine about something that is not, or is already, there.",
    "drops": "Packets that were not forwarded, by reason.",
}
_ENGINE_GAUGES: Final[Mapping[str, str]] = {
    "transports": "Transports in the engine.",
    "transports_connected": "Transports with keys and a validated path.",
    "publications": "Publications in the engine.",
    "subscriptions": "Subscriptions in the engine.",
    "subscriptions_forwarding": "Subscriptions that are forwarded at the moment.",
}
_WORKER_GAUGES: Final[Mapping[str, tuple[str, str]]] = {
    "busy_ratio": ("worker_busy_ratio", "Share of the last interval in which a worker was not waiting, 0 to 1."),
    "events_waiting": ("event_queue_depth", "Events of a worker that wait for Python."),
}


class HasRole(Protocol):
    @property
    def role(self) -> str: ...


class Participant(Protocol):
    @property
    def rights(self) -> HasRole: ...


class Room(Protocol):
    @property
    def participants(self) -> Mapping[str, Participant]: ...


class Worker(Protocol):
    @property
    def name(self) -> str:
        """From a closed set: its number among the configured workers."""

    @property
    def deaths(self) -> int: ...
    def snapshot(self) -> Mapping[str, object]: ...


class Front(Protocol):
    @property
    def deaths(self) -> int: ...
    def snapshot(self) -> tuple[Counter[str], Mapping[str, int]]: ...


class Recorded(Protocol):
    @property
    def records(self) -> int: ...
    @property
    def lost(self) -> int: ...


class Box(Protocol):
    @property
    def delivered(self) -> int: ...
    @property
    def failures(self) -> int: ...
    def __len__(self) -> int: ...


class Told(Protocol):
    @property
    def outbox(self) -> Box: ...
    @property
    def drops(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the numbers are, asked at each scrape."""

    roles: Callable[[], Collection[str]]
    rooms: Callable[[], Iterable[Room]]
    workers: Callable[[], Iterable[Worker]]
    front: Callable[[], Front | None] = lambda: None
    """Where media is taken by TCP."""
    associations: Callable[[], Iterable[Counters]]
    connections: Callable[[], int]
    """Open signalling connections."""
    refusals: Callable[[], Counter[str]]
    """Requests over HTTP that were refused, by rule."""
    capacity: Callable[[], int]
    """Participants that the configuration allows."""
    certificate_ends: Callable[[], float | None]
    """When the certificate of HTTPS expires, in seconds since 1970; None without one."""
    draining: Callable[[], bool]
    audit: Callable[[], Recorded | None]
    webhooks: Callable[[], Told]
    lag: Callable[[], float]
    """Seconds by which the event loop was late, at worst since the last call."""
    version: str

    def people(self) -> int:
        return sum(len(room.participants) for room in self.rooms())

    def load(self) -> float:
        """How full the server is, 1 is full: its busiest worker or its participants, whichever is the greater."""
        busiest = max((_number(each.snapshot().get("busy_ratio")) for each in self.workers()), default=0.0)
        return max(busiest, self.people() / self.capacity())


class Metrics:
    """A `boundary.Announcer` that keeps what is worth counting, and the answer to a scrape."""

    def __init__(self, sources: Sources) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Series(sources, self))
        ProcessCollector(registry=self._registry)
        self.joins: Counter[str] = Counter()
        self.join_durations = Histogram()
        self.leaves: Counter[str] = Counter()
        self.client_errors: Counter[str] = Counter()
        self.data_refused: Counter[str] = Counter()
        self.moderations: Counter[str] = Counter()
        self.resumes: Counter[str] = Counter()
        self.simulations: Counter[str] = Counter()
        self.reloads: Counter[str] = Counter()
        self.last_reload_accepted = True
        self._joining: set[object] = set()  # sids; no more than there are participants

    def announce(self, event: str, facts: Mapping[str, str | int | float]) -> None:
        who, reason = facts.get("participant", ""), facts.get("reason", OTHER)
        match event:
            case "participant_joined":
                self._joining.add(who)
            case "participant_active":
                self._joining.discard(who)
                self.joins["connected"] += 1
                self.join_durations.observe(float(facts.get("seconds", 0.0)))
            case "participant_left":
                if who in self._joining:
                    self._joining.discard(who)
                    self.joins["failed"] += 1
                _count(self.leaves, reason)
            case "join_refused":  # after the upgrade: others were quicker
                self.joins["full"] += 1
            case "participant_resumed":
                self.resumes["resumed"] += 1
            case "resume_refused":
                self.resumes["refused"] += 1
            case "client_error":
                _count(self.client_errors, facts.get("rule", OTHER))
            case "data_refused":
                _count(self.data_refused, reason)
            case "simulated":
                self.simulations["done"] += 1
            case "simulate_refused":
                self.simulations["refused"] += 1
            case "moderated":
                _count(self.moderations, facts.get("action", OTHER))

    def join_refused(self, error: Exception) -> None:
        """A join that ended before the upgrade."""
        kind = "bad_request" if isinstance(error, ClientError) else "internal"
        self.joins[next((name for error_type, name in _REFUSALS.items() if isinstance(error, error_type)), kind)] += 1

    def reloaded(self, *, accepted: bool) -> None:
        self.reloads["accepted" if accepted else "refused"] += 1
        self.last_reload_accepted = accepted

    def render(self, accept: str) -> tuple[bytes, str]:
        """The answer to a scrape, and its content type, in the best form that `accept` (the HTTP header) allows."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def _count(counter: Counter[str], reason: object, number: int = 1) -> None:
    """Reasons are words of our own. Whatever is none, and whatever comes after too many, is `other`."""
    word = str(reason)
    if _REASON.fullmatch(word) is None or (word not in counter and len(counter) >= MAX_REASONS):
        word = OTHER
    counter[word] += number


# --- the series ------------------------------------------------------------------------------------------------------


class _Series(Collector):
    """Builds every family anew at each scrape."""

    def __init__(self, sources: Sources, kept: Metrics) -> None:
        self._sources = sources
        self._kept = kept
        self._ended: Counter[str] = Counter()  # counters of workers that died, so that no total ever falls
        self._last: dict[str, tuple[int, Counter[str]]] = {}  # worker → its deaths and counters at the last scrape

    def collect(self) -> Iterator[Metric]:
        yield from self._server()
        yield from self._rooms()
        yield from self._joins()
        yield from self._webhooks()
        yield from self._associations()
        yield from self._engine()
        yield from self._front()

    def _server(self) -> Iterator[Metric]:
        yield InfoMetricFamily(f"{PREFIX}build", "What is running.", value={"version": self._sources.version})
        yield _gauge(
            "event_loop_lag_seconds",
            "How late the event loop was, at worst since the last scrape.",
            self._sources.lag(),
        )
        yield _gauge(
            "load_ratio",
            "How full the server is, 1 is full: its busiest worker or its participants, whichever is the greater.",
            self._sources.load(),
        )
        if (ends := self._sources.certificate_ends()) is not None:
            yield _gauge("tls_certificate_expiry_timestamp_seconds", "When the certificate of HTTPS expires.", ends)
        yield _gauge("draining", "1 while new rooms are refused before the server ends.", int(self._sources.draining()))
        yield _gauge(
            "config_last_reload_successful", "0 after a reload that was refused.", int(self._kept.last_reload_accepted)
        )
        audit = self._sources.audit()
        yield _counter("audit_records", "Records of the audit log.", 0 if audit is None else audit.records)
        yield _counter("audit_records_lost", "Records that could not be written.", 0 if audit is None else audit.lost)
        yield _gauge("signalling_connections", "Open signalling connections.", self._sources.connections())
        yield _by(
            "config_reloads", "Reloads of the configuration.", "result", self._kept.reloads, ("accepted", "refused")
        )

    def _rooms(self) -> Iterator[Metric]:
        rooms, people = 0, Counter[str]()
        roles = self._sources.roles()
        for room in self._sources.rooms():
            rooms += 1
            # A role that a reload has taken away may still be held by someone who is here.
            people.update(
                role if (role := participant.rights.role) in roles else OTHER
                for participant in room.participants.values()
            )
        yield _gauge("rooms", "Rooms, the empty ones that are not yet forgotten included.", rooms)
        participants = GaugeMetricFamily(f"{PREFIX}participants", "Participants, by role.", labels=["role"])
        for role in sorted({*roles, OTHER}):
            participants.add_metric([role], people[role])
        yield participants

    def _joins(self) -> Iterator[Metric]:
        kept = self._kept
        yield _by("joins", "Joins, by what became of them.", "result", kept.joins, JOIN_RESULTS)
        yield _histogram("join_duration_seconds", "From the join to the first media path.", [kept.join_durations])
        refused = Counter[str]()
        for rule, count in self._sources.refusals().items():
            _count(refused, rule, count)
        yield _by("requests_refused", "Joins and calls refused, by rule.", "rule", refused, RATES)
        yield _by(
            "resumes", "Signalling regained, or nothing to resume.", "result", kept.resumes, ("resumed", "refused")
        )
        yield _by("leaves", "Participants who left, by reason.", "reason", kept.leaves)
        yield _by("client_errors", "Clients put out for what they sent, by rule.", "rule", kept.client_errors)
        yield _by("data_refused", "Data messages not passed on, by reason.", "reason", kept.data_refused, REFUSALS)
        yield _by(
            "simulations", "Failures that clients have asked for.", "result", kept.simulations, ("done", "refused")
        )
        yield _by("moderations", "What moderators did, by the server API.", "action", kept.moderations, MODERATIONS)

    def _webhooks(self) -> Iterator[Metric]:
        told = self._sources.webhooks()
        box = told.outbox
        yield _gauge("webhooks_waiting", "Events that somebody outside has not been told yet.", len(box))
        yield _counter("webhooks_delivered", "Webhooks that arrived, one for each event and address.", box.delivered)
        yield _counter("webhook_failures", "Attempts of a webhook that did not arrive.", box.failures)
        yield _by("webhooks_dropped", "Webhooks that nobody will be told, by reason.", "reason", Counter(told.drops))

    def _associations(self) -> Iterator[Metric]:
        handshakes, ends, data_ends = Counter[str](), Counter[str](), Counter[str]()
        durations, replays, dropped = [], 0, 0
        for each in self._sources.associations():
            handshakes += each.handshakes
            ends += each.ends
            data_ends += each.data_ends
            durations.append(each.durations)
            replays += each.replays
            dropped += each.datagrams_dropped
        yield _by("dtls_handshakes", "DTLS handshakes, by result.", "result", handshakes, ("connected",))
        yield _histogram("dtls_handshake_duration_seconds", "From the first datagram to the keys.", durations)
        yield _by("dtls_ends", "Connected associations that ended, other than by us, by reason.", "reason", ends)
        yield _by("data_channel_ends", "Data channels that ended, by reason.", "reason", data_ends)
        yield _counter("dtls_flights_repeated", "Lost DTLS flights that were sent again.", replays)
        yield _counter("dtls_datagrams_dropped", "DTLS datagrams dropped in Python: too many, or of nobody.", dropped)

    def _front(self) -> Iterator[Metric]:
        front = self._sources.front()
        if front is None:
            return
        counted, opened = front.snapshot()
        connections = GaugeMetricFamily(
            f"{PREFIX}front_connections", "Open connections at the front, by what they are.", labels=["kind"]
        )
        for kind, count in opened.items():
            connections.add_metric([kind], count)
        yield connections
        yield _counter("front_accepted", "Connections that the front has accepted.", counted["accepted"])
        for kind, meaning in (
            ("refused", "Connections that the front has ended, by reason."),
            ("dropped", "Datagrams of clients by TCP that did not go on, by reason."),
        ):
            prefix = f"{kind} "
            named = Counter({name.removeprefix(prefix): n for name, n in counted.items() if name.startswith(prefix)})
            yield _by(f"front_{kind}", meaning, "reason", named, named)
        datagrams = CounterMetricFamily(
            f"{PREFIX}front_datagrams", "Datagrams of clients by TCP.", labels=["direction"]
        )
        datagrams.add_metric(["in"], counted["received"])
        datagrams.add_metric(["out"], counted["sent"])
        yield datagrams
        yield _counter("front_deaths", "Times that the front died and was started again.", front.deaths)

    def _engine(self) -> Iterator[Metric]:
        totals, gauged = Counter(self._ended), Counter[str]()
        gauges = {
            key: GaugeMetricFamily(PREFIX + name, meaning, labels=["worker"])
            for key, (name, meaning) in _WORKER_GAUGES.items()
        }
        deaths = CounterMetricFamily(
            f"{PREFIX}worker_deaths", "Workers that died and were replaced.", labels=["worker"]
        )
        cpu = CounterMetricFamily(f"{PREFIX}worker_cpu_seconds", "CPU time, the system's included.", labels=["worker"])
        for worker in self._sources.workers():
            snapshot = worker.snapshot()
            totals.update(self._monotonic(worker, snapshot))  # update: unlike +=, it keeps what is zero
            gauged.update({key: _integer(snapshot.get(key)) for key in _ENGINE_GAUGES})
            for key, family in gauges.items():
                family.add_metric([worker.name], _number(snapshot.get(key)))
            deaths.add_metric([worker.name], worker.deaths)
            cpu.add_metric([worker.name], _number(snapshot.get("cpu_seconds")))
        yield from (deaths, cpu)
        yield from gauges.values()
        for key, meaning in _ENGINE_GAUGES.items():
            yield _gauge(f"engine_{key}", meaning, gauged[key])
        yield from _engine_families(totals)

    def _monotonic(self, worker: Worker, snapshot: Mapping[str, object]) -> Counter[str]:
        """The worker's counters since this process started. Adds what its predecessors had reached to `_ended`.

        A replaced worker starts from zero; what its predecessor counted after the last scrape is lost.
        """
        counts = Counter({name: _integer(value) for name, value in _table(snapshot, "counters").items()})
        counts.update({f"drop {reason}": _integer(value) for reason, value in _table(snapshot, "drops").items()})
        deaths, before = self._last.get(worker.name, (worker.deaths, Counter[str]()))
        self._last[worker.name] = (worker.deaths, counts)
        if deaths == worker.deaths:
            return counts
        self._ended.update(before)
        since = Counter(counts)
        since.update(before)  # this scrape's totals were begun without it
        return since


def _engine_families(totals: Counter[str]) -> Iterator[Metric]:
    samples: dict[str, list[tuple[dict[str, str], int]]] = {name: [] for name in _ENGINE_HELP}
    for name, value in sorted(totals.items()):
        if name.startswith("drop "):
            samples["drops"].append(({"reason": name.removeprefix("drop ")}, value))
        elif traffic := _TRAFFIC.fullmatch(name):
            samples[traffic[1]].append(({"direction": traffic[2], "kind": traffic[3]}, value))
        elif name in _ENGINE_COUNTERS:
            family, labels = _ENGINE_COUNTERS[name]
            samples[family].append((dict(labels), value))
    for name, values in samples.items():
        keys = list(values[0][0]) if values else []
        counter = CounterMetricFamily(PREFIX + name, _ENGINE_HELP[name], labels=keys)
        for labels, value in values:
            counter.add_metric([labels[key] for key in keys], value)
        yield counter


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, meaning, value=value)


def _counter(name: str, meaning: str, value: int) -> Metric:
    return CounterMetricFamily(PREFIX + name, meaning, value=value)


def _by(name: str, meaning: str, label: str, counts: Counter[str], always: Collection[str] = ()) -> Metric:
    """One counter for each value of a label; those in `always` are there from the start, so that a rate sees them."""
    family = CounterMetricFamily(PREFIX + name, meaning, labels=[label])
    for value in sorted({*always, *counts}):
        family.add_metric([value], counts[value])
    return family


def _histogram(name: str, meaning: str, parts: Collection[Histogram]) -> Metric:
    """The sum of several, with cumulative buckets as Prometheus wants them."""
    buckets, total = [], 0
    for index, bound in enumerate((*map(str, Histogram.BOUNDS), "+Inf")):
        total += sum(part.counts[index] for part in parts)
        buckets.append((bound, total))
    family = HistogramMetricFamily(PREFIX + name, meaning)
    family.add_metric([], buckets, sum(part.sum for part in parts))
    return family


def _table(snapshot: Mapping[str, object], name: str) -> Mapping[str, object]:
    table = snapshot.get(name)
    return table if isinstance(table, Mapping) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0
