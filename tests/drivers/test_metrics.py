"""Metrics: the right numbers, under names that Prometheus likes; a thousand rooms make no more series than one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from d4e_sfu import config
from d4e_sfu._engine import Router
from d4e_sfu.config import Config
from d4e_sfu.core.datapacket import REFUSALS
from d4e_sfu.drivers.counters import Counters
from d4e_sfu.drivers.metrics import JOIN_RESULTS, MAX_REASONS, Metrics, Sources
from d4e_sfu.drivers.webhooks import Webhooks
from d4e_sfu.errors import BadRequest, Forbidden, Full, RoomNotFound, TooLarge, TooMany, Unauthorized


@dataclass
class Rights:
    role: str


@dataclass
class Participant:
    rights: Rights


@dataclass
class Room:
    participants: dict[str, Participant]


@dataclass
class Worker:
    name: str
    counters: Mapping[str, int]
    drops: Mapping[str, int] = field(default_factory=dict)
    gauges: Mapping[str, float] = field(default_factory=dict)
    deaths: int = 0

    def snapshot(self) -> Mapping[str, object]:
        return {"counters": self.counters, "drops": self.drops, **self.gauges}


def room(*roles: str) -> Room:
    return Room({f"person-{number}": Participant(Rights(role)) for number, role in enumerate(roles)})


NOTHING = Sources(
    roles=lambda: config.DEFAULT_ROLES.keys(),
    rooms=list,
    workers=list,
    associations=list,
    connections=lambda: 0,
    refusals=Counter,
    capacity=lambda: 500,
    certificate_ends=lambda: None,
    draining=lambda: False,
    audit=lambda: None,
    webhooks=lambda: Webhooks(Config(), sign=lambda body: body),
    lag=lambda: 0.0,
    version="0.1",
)


def scrape(metrics: Metrics) -> dict[str, float]:
    """Every series as `name{label="value"}`, without the prefix."""
    text, content_type = metrics.render("text/plain")
    assert content_type.startswith("text/plain")
    series = {}
    for family in parse_classic(text.decode()):
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            series[sample.name.removeprefix("d4e_sfu_") + (f"{{{labels}}}" if labels else "")] = sample.value
    return series


def test_rooms_and_participants_by_role() -> None:
    sources = replace(NOTHING, rooms=lambda: [room("doctor", "patient"), room("patient"), room()])
    series = scrape(Metrics(sources))
    assert series["rooms"] == 3
    assert series['participants{role="patient"}'] == 2
    assert series['participants{role="doctor"}'] == 1
    assert series['participants{role="moderator"}'] == 0


def test_refusals_are_counted_by_rule_and_those_by_rate_from_the_start() -> None:
    series = scrape(Metrics(replace(NOTHING, refusals=lambda: Counter(address_rate=3, expired=1))))
    assert series['requests_refused_total{rule="address_rate"}'] == 3
    assert series['requests_refused_total{rule="identity_rate"}'] == 0
    assert series['requests_refused_total{rule="expired"}'] == 1


def test_a_role_that_a_reload_took_away_is_still_counted() -> None:
    series = scrape(Metrics(replace(NOTHING, rooms=lambda: [room("surgeon")], roles=lambda: ["doctor"])))
    assert series['participants{role="other"}'] == 1
    assert not any("surgeon" in name for name in series)


def test_a_thousand_rooms_make_no_more_series_than_one() -> None:
    def used(rooms: int) -> Metrics:
        worker = Worker("worker-0", {"packets_received_audio": rooms}, {"paused": 1}, {"busy_ratio": 0.5})
        metrics = Metrics(replace(NOTHING, rooms=lambda: [room("doctor", "patient")] * rooms, workers=lambda: [worker]))
        for number in range(rooms):
            facts: dict[str, str | int | float] = {"room": f"RM_{number}", "participant": f"PA_{number}"}
            metrics.announce("participant_joined", facts)
            metrics.announce("participant_active", {**facts, "seconds": number / 1000})
            metrics.announce("participant_left", {**facts, "reason": "client_initiated"})
            metrics.announce("client_error", {**facts, "rule": "protobuf"})
            metrics.announce("moderated", {**facts, "action": "mute", "by": f"PA_{number}"})
            metrics.announce("participant_resumed", {**facts, "seconds": 1.0})
            metrics.announce("resume_refused", {"room": f"RM_{number}"})
            metrics.announce(f"event-{number}", {"room": f"RM_{number}"})
        return metrics

    one, thousand = scrape(used(1)), scrape(used(1000))
    assert thousand.keys() == one.keys()
    assert thousand["rooms"] == 1000
    assert not any("RM_" in name or "PA_" in name or "person" in name for name in thousand)
    assert len(thousand) < 200


def test_reasons_from_outside_end_as_other() -> None:
    metrics = Metrics(NOTHING)
    for reason in ("client_initiated", "10.0.0.5:7882", "Nguyễn Văn A", "x" * 41, 7, "a b"):
        metrics.announce("participant_left", {"participant": "PA_1", "reason": reason})
    for number in range(1000):
        metrics.announce("data_refused", {"reason": f"reason_{number}"})
    series = scrape(metrics)
    assert series['leaves_total{reason="client_initiated"}'] == 1
    assert series['leaves_total{reason="other"}'] == 5
    assert series['data_refused_total{reason="other"}'] == 1000 - MAX_REASONS
    assert sum(name.startswith("data_refused_total") for name in series) == MAX_REASONS + 1 + len(REFUSALS)


def test_joins_are_counted_by_what_became_of_them() -> None:
    metrics = Metrics(NOTHING)
    before = scrape(metrics)
    assert {name: value for name, value in before.items() if name.startswith("joins_total")} == {
        f'joins_total{{result="{result}"}}': 0 for result in JOIN_RESULTS
    }
    for participant in ("PA_1", "PA_2"):
        metrics.announce("participant_joined", {"room": "RM_1", "participant": participant})
    metrics.announce("participant_active", {"room": "RM_1", "participant": "PA_1", "seconds": 0.3})
    for participant in ("PA_1", "PA_2"):  # the second never had a path
        metrics.announce("participant_left", {"room": "RM_1", "participant": participant, "reason": "join_failure"})
    refusals = (BadRequest, TooLarge, Unauthorized, Forbidden, RoomNotFound, Full)
    for error in refusals:
        metrics.join_refused(error("a sentence", rule="a_rule"))
    metrics.join_refused(TooMany("a sentence", rule="a_rule", retry_after=1.0))
    metrics.join_refused(ZeroDivisionError())
    metrics.announce("join_refused", {"rule": "room_capacity"})  # admitted, and too late
    assert metrics.joins["full"] == 2
    metrics.joins["full"] -= 1
    series = scrape(metrics)
    assert {name: value for name, value in series.items() if name.startswith("joins_total")} == {
        f'joins_total{{result="{result}"}}': 1 for result in JOIN_RESULTS
    }
    assert series['leaves_total{reason="join_failure"}'] == 2


def test_join_durations_are_a_histogram() -> None:
    metrics = Metrics(NOTHING)
    for seconds in (0.005, 0.01, 0.3, 60.0):
        metrics.announce("participant_active", {"participant": "PA_1", "seconds": seconds})
    series = scrape(metrics)
    buckets = {
        bound: series[f'join_duration_seconds_bucket{{le="{bound}"}}'] for bound in ("0.01", "0.25", "0.5", "10.0")
    }
    assert buckets == {"0.01": 2, "0.25": 2, "0.5": 3, "10.0": 3}
    assert series['join_duration_seconds_bucket{le="+Inf"}'] == series["join_duration_seconds_count"] == 4
    assert series["join_duration_seconds_sum"] == pytest.approx(60.315)


def test_the_engines_counters_are_added_up_over_workers() -> None:
    names = {
        "packets_received_audio": 'packets_total{direction="received",kind="audio"}',
        "bytes_sent_video": 'bytes_total{direction="sent",kind="video"}',
        "packets_sent_rtx": 'packets_total{direction="sent",kind="rtx"}',
        "keyframe_requests_received": 'keyframe_requests_total{direction="received"}',
        "keyframe_requests_sent": 'keyframe_requests_total{direction="sent"}',
        "pictures_from_cache": "pictures_from_cache_total",
        "nacks_received": 'packets_asked_again_total{direction="received"}',
        "nacks_sent": 'packets_asked_again_total{direction="sent"}',
        "packets_repaired": "packets_repaired_total",
        "packets_restored": "packets_restored_total",
        "redundant_bytes": "redundant_bytes_total",
        "layer_switches": "layer_switches_total",
        "packets_sent_probe": 'packets_total{direction="sent",kind="probe"}',
        "packets_paced": "packets_paced_total",
        "paced_microseconds": "paced_microseconds_total",
        "pictures_held": "pictures_held_total",
        "probes": "probes_total",
        "path_changes": 'ice_events_total{event="path_changed"}',
        "checks_answered": 'ice_events_total{event="check_answered"}',
        "checks_sent": 'ice_events_total{event="check_sent"}',
        "transports_gone": 'ice_events_total{event="consent_expired"}',
        "commands_ignored": "commands_ignored_total",
    }
    counters = {name: number for number, name in enumerate(names, start=1)}
    workers = [
        Worker(
            "worker-0",
            counters,
            {"paused": 5, "bad_rtp": 0},
            {"busy_ratio": 0.25, "events_waiting": 3, "cpu_seconds": 1.5},
        ),
        Worker("worker-1", counters, {"paused": 1}, {"busy_ratio": 0.5, "transports": 6}),
    ]
    series = scrape(Metrics(replace(NOTHING, workers=lambda: workers)))
    assert {name: series[exported] for name, exported in names.items()} == {n: 2 * v for n, v in counters.items()}
    assert series['drops_total{reason="paused"}'] == 6
    assert series['drops_total{reason="bad_rtp"}'] == 0  # there from the start
    assert series['worker_busy_ratio{worker="worker-1"}'] == 0.5
    assert series['event_queue_depth{worker="worker-0"}'] == 3
    assert series['worker_cpu_seconds_total{worker="worker-0"}'] == 1.5
    assert series["engine_transports"] == 6


def test_everything_that_the_engine_counts_is_exported() -> None:
    """One of each: a counter that is new in the engine and has no name here is missing from the sum."""
    engine = Router().snapshot()
    counters, drops = engine["counters"], engine["drops"]
    assert isinstance(counters, dict)
    assert isinstance(drops, dict)
    nothing = scrape(Metrics(replace(NOTHING, workers=lambda: [Worker("worker-0", counters, drops)])))
    ones = Worker("worker-0", dict.fromkeys(counters, 1), dict.fromkeys(drops, 1))
    series = scrape(Metrics(replace(NOTHING, workers=lambda: [ones])))
    ours = [name for name in series if not name.startswith("process_")]
    assert sum(series[name] - nothing[name] for name in ours) == len(counters) + len(drops)
    assert {"transports", "transports_connected", "publications", "subscriptions", "events_waiting"} <= engine.keys()
    assert {
        f"engine_{name}" for name in engine if name not in ("counters", "drops", "levels", "events_waiting")
    } <= set(ours)
    assert len(series) < 250


def test_no_total_falls_when_a_worker_is_replaced() -> None:
    worker = Worker("worker-0", {"packets_received_audio": 100}, {"paused": 7})
    metrics = Metrics(replace(NOTHING, workers=lambda: [worker]))
    name, drops = 'packets_total{direction="received",kind="audio"}', 'drops_total{reason="paused"}'
    seen = [(scrape(metrics)[name], scrape(metrics)[drops])]
    for deaths, count in ((1, 0), (1, 5), (2, 1), (2, 1)):
        worker.deaths, worker.counters, worker.drops = deaths, {"packets_received_audio": count}, {"paused": 0}
        series = scrape(metrics)
        seen.append((series[name], series[drops]))
    assert seen == [(100, 7), (100, 7), (105, 7), (106, 7), (106, 7)]
    assert scrape(metrics)['worker_deaths_total{worker="worker-0"}'] == 2


def test_a_snapshot_that_is_not_there_yet_is_nothing() -> None:
    class Starting(Worker):
        def snapshot(self) -> Mapping[str, object]:
            return {"counters": None, "busy_ratio": "?"}

    series = scrape(Metrics(replace(NOTHING, workers=lambda: [Starting("worker-0", {})])))
    assert series['worker_busy_ratio{worker="worker-0"}'] == 0


def test_dtls_results_are_added_up_over_workers() -> None:
    one, other = Counters(), Counters()
    one.handshakes.update(connected=3, fingerprint=1)
    other.handshakes.update(connected=1)
    one.durations.observe(0.02)
    other.durations.observe(0.2)
    one.ends["closed"] = 1
    one.data_ends["gaps"] = 2
    one.replays = other.replays = 2
    series = scrape(Metrics(replace(NOTHING, associations=lambda: [one, other])))
    assert series['dtls_handshakes_total{result="connected"}'] == 4
    assert series['dtls_handshakes_total{result="fingerprint"}'] == 1
    assert series["dtls_handshake_duration_seconds_count"] == 2
    assert series["dtls_handshake_duration_seconds_sum"] == pytest.approx(0.22)
    assert series['dtls_ends_total{reason="closed"}'] == 1
    assert series['data_channel_ends_total{reason="gaps"}'] == 2
    assert series["dtls_flights_repeated_total"] == 4


def test_the_rest_of_the_server_is_there() -> None:
    metrics = Metrics(replace(NOTHING, connections=lambda: 9, lag=lambda: 0.125))
    metrics.reloaded(accepted=True)
    metrics.reloaded(accepted=False)
    metrics.reloaded(accepted=False)
    series = scrape(metrics)
    assert series["signalling_connections"] == 9
    assert series["event_loop_lag_seconds"] == 0.125
    assert series['config_reloads_total{result="refused"}'] == 2
    assert series['build_info{version="0.1"}'] == 1
    assert series["process_resident_memory_bytes"] > 0


def families() -> Iterator[tuple[str, str, str]]:
    worker = Worker("worker-0", {"packets_received_audio": 1}, {"paused": 1})
    text, _ = Metrics(replace(NOTHING, workers=lambda: [worker])).render("")
    for family in parse_classic(text.decode()):
        yield family.name, family.type, family.documentation


@pytest.mark.parametrize(("name", "kind", "meaning"), list(families()))
def test_names_follow_the_rules_of_prometheus(name: str, kind: str, meaning: str) -> None:
    assert meaning
    if name.startswith("process_"):
        return  # prometheus-client's own
    assert re.fullmatch(r"d4e_sfu_[a-z][a-z0-9_]*[a-z0-9]", name)
    assert not re.search(r"_(ms|millis|percent|kb|count|total_total)\b", name)
    assert meaning.endswith((".", "1."))
    assert kind in ("counter", "gauge", "histogram")


def test_openmetrics_is_spoken_too() -> None:
    worker = Worker("worker-0", {"packets_received_audio": 1}, {"paused": 1})
    text, content_type = Metrics(replace(NOTHING, workers=lambda: [worker])).render("application/openmetrics-text")
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(text.decode())}  # type: ignore[no-untyped-call] # raises
    assert "d4e_sfu_packets" in names


@pytest.mark.parametrize(
    ("busy", "people", "load"), [(0.25, 10, 0.25), (0.25, 300, 0.6), (0.9, 300, 0.9), (0.0, 0, 0.0)]
)
def test_the_load_is_the_busiest_worker_or_the_people_whichever_is_the_greater(
    busy: float, people: int, load: float
) -> None:
    workers = [
        Worker("worker-0", {}, gauges={"busy_ratio": busy / 2}),
        Worker("worker-1", {}, gauges={"busy_ratio": busy}),
    ]
    sources = replace(NOTHING, workers=lambda: workers, rooms=lambda: [room(*["doctor"] * people)])
    assert scrape(Metrics(sources))["load_ratio"] == load


def test_a_certificate_tells_when_it_expires_and_without_one_nothing_is_told() -> None:
    name = "tls_certificate_expiry_timestamp_seconds"
    assert name not in scrape(Metrics(NOTHING))
    assert scrape(Metrics(replace(NOTHING, certificate_ends=lambda: 1.9e9)))[name] == 1.9e9


def test_a_server_of_many_workers_roles_and_rooms_stays_below_fifteen_hundred_series() -> None:
    """64 workers and 32 roles are the most that a configuration may have."""
    engine = Router().snapshot()
    counters, drops = engine["counters"], engine["drops"]
    assert isinstance(counters, dict)
    assert isinstance(drops, dict)
    workers = [Worker(f"worker-{number}", counters, drops) for number in range(64)]
    roles = [f"role-{number}" for number in range(32)]
    rooms = [room("doctor", "patient") for _ in range(200)]
    sources = replace(NOTHING, workers=lambda: workers, rooms=lambda: rooms, roles=lambda: roles)
    assert len(scrape(Metrics(sources))) <= 1500
