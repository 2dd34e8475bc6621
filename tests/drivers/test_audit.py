"""The audit log on a disk: who is in it and how, what a full disk does and a power cut leaves, what an auditor sees."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
from pathlib import Path

import pytest

from d4e_sfu.__main__ import main
from d4e_sfu.drivers import audit as audits
from d4e_sfu.drivers.audit import Audit, Secret, examine, segments
from d4e_sfu.errors import Forbidden, Full, TooMany

SECRET = Secret(b"s" * 40)
NOVEMBER = 1_795_000_000.0  # 2026-11-18
DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = NOVEMBER

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(folder: Path, clock: Clock, *, version: str = "1.0", keep: float = 365 * DAY) -> Audit:
    return Audit(folder, SECRET, keep=keep, version=version, wall=clock)


def records(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for file in segments(folder) for line in file.read_text().splitlines()]


def events(folder: Path) -> list[object]:
    return [each["event"] for each in records(folder)]


WHO = {"room": "RM_1", "participant": "PA_1", "identity": "an@example", "room_name": "ward", "role": "doctor"}


def test_each_act_is_one_record_with_actor_and_reason_and_nobodys_name(tmp_path: Path, clock: Clock) -> None:
    log = opened(tmp_path, clock)
    log.announce("participant_joined", WHO)
    log.announce("participant_active", {**WHO, "seconds": 0.5})
    moderated = {**WHO, "action": "remove", "by": "PA_2", "by_identity": "mod@example"}
    log.announce("moderated", moderated)
    log.announce("participant_left", {**WHO, "reason": "participant_removed"})
    log.announce("join_refused", {"rule": "room_capacity", "identity": "binh@example", "room_name": "ward"})
    log.refused("call", Forbidden("No.", rule="not_moderator"), "binh@example", "ward")
    log.refused("join", Forbidden("No.", rule="origin"), "", "")
    log.record("reload", actor="uid:0", reason="limits.sections changed")
    log.stop()
    an, binh, ward = (
        SECRET.pseudonym(*each) for each in (("person", "an@example"), ("person", "binh@example"), ("room", "ward"))
    )
    found = [
        (each["event"], each["actor"], each["reason"], each.get("what", ""), each.get("room", ""))
        for each in records(tmp_path)
    ]
    assert found == [
        ("start", "server", "", "", ""),
        ("join", an, "", "", ward),
        ("moderation", SECRET.pseudonym("person", "mod@example"), "", "remove", ward),
        ("leave", an, "participant_removed", "", ward),
        ("refusal", binh, "room_capacity", "join", ward),
        ("refusal", binh, "not_moderator", "call", ward),
        ("refusal", "unknown", "origin", "join", ""),
        ("reload", "uid:0", "limits.sections changed", "", ""),
        ("stop", "server", "", "", ""),
    ]
    assert records(tmp_path)[2]["target"] == an
    text = segments(tmp_path)[0].read_text()
    for name in ("example", "ward", "mod@"):
        assert name not in text
    assert examine(tmp_path, SECRET, []).problems == []
    assert segments(tmp_path)[0].stat().st_mode & 0o007 == 0


def test_a_pseudonym_needs_the_secret_and_people_are_not_rooms() -> None:
    assert SECRET.pseudonym("person", "an") == Secret(b"s" * 40).pseudonym("person", "an")
    assert SECRET.pseudonym("person", "an") != Secret(b"t" * 40).pseudonym("person", "an")
    assert SECRET.pseudonym("person", "an")[7:] != SECRET.pseudonym("room", "an")[5:]


def test_a_flood_of_refusals_is_one_record_a_minute(tmp_path: Path, clock: Clock) -> None:
    log = opened(tmp_path, clock)
    for _ in range(500):
        log.refused("join", TooMany("Too many.", rule="address_rate", retry_after=1), "", "")
    log.tell_floods()
    log.tell_floods()
    log.close()
    assert events(tmp_path) == ["start", "refusals"]
    assert records(tmp_path)[1]["count"] == 500


def test_a_restart_goes_on_with_the_chain_and_an_upgrade_is_a_record(tmp_path: Path, clock: Clock) -> None:
    for version in ("1.0", "1.0", "1.1"):
        opened(tmp_path, clock, version=version).stop()
    assert events(tmp_path) == ["start", "stop", "start", "stop", "upgrade", "start", "stop"]
    assert records(tmp_path)[4]["reason"] == "1.0 to 1.1"
    assert examine(tmp_path, SECRET, []).problems == []


def test_only_one_server_writes(tmp_path: Path, clock: Clock) -> None:
    log = opened(tmp_path, clock)
    with pytest.raises(OSError, match="another server writes there"):
        opened(tmp_path, clock)
    log.close()
    opened(tmp_path, clock).close()


@pytest.mark.parametrize("left", [b'{"seq":3,"at":"20', b"\0" * 300, b'{"seq":3,"event":"x","mac":"'])
def test_half_a_record_of_a_power_cut_is_taken_away_and_said(tmp_path: Path, clock: Clock, left: bytes) -> None:
    opened(tmp_path, clock).stop()
    with segments(tmp_path)[0].open("ab") as file:
        file.write(left)
    opened(tmp_path, clock).stop()
    assert events(tmp_path) == ["start", "stop", "gap", "start", "stop"]
    assert records(tmp_path)[2]["reason"] == "torn"
    assert examine(tmp_path, SECRET, []).problems == []


def test_what_somebody_wrote_at_the_end_is_found_and_the_server_starts_all_the_same(
    tmp_path: Path, clock: Clock
) -> None:
    opened(tmp_path, clock).stop()
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b"nonsense\n")
    opened(tmp_path, clock).stop()
    assert examine(tmp_path, SECRET, []).problems == [f"{segments(tmp_path)[0].name}:3: is no record"]


def fill(monkeypatch: pytest.MonkeyPatch, *, partly: bool) -> None:
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if partly:
            return write(descriptor, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("d4e_sfu.drivers.audit.os.write", full)


@pytest.mark.parametrize("partly", [False, True])
def test_on_a_full_disk_calls_go_on_privileged_acts_are_refused_and_a_gap_record_follows(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, partly: bool
) -> None:
    log = opened(tmp_path, clock)
    log.require()
    with monkeypatch.context() as patch:
        fill(patch, partly=partly)
        for _ in range(3):
            log.announce("participant_joined", WHO)
        with pytest.raises(Full, match="has to be recorded, and the disk of the audit log is full") as refused:
            log.require()
        assert refused.value.rule == "audit_full"
    assert log.lost == 3
    log.require()
    log.announce("participant_left", {**WHO, "reason": "client_initiated"})
    log.stop()
    assert events(tmp_path) == ["start", "gap", "leave", "stop"]
    assert (records(tmp_path)[1]["reason"], records(tmp_path)[1]["lost"]) == ("disk", 3)
    assert examine(tmp_path, SECRET, []).problems == []


def test_a_privileged_act_needs_room_before_it_is_done(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(tmp_path, clock)

    def nearly_full(_: object) -> os.statvfs_result:
        return os.statvfs_result((4096, 4096, 1000, 3, 3, 0, 0, 0, 0, 255))

    monkeypatch.setattr("d4e_sfu.drivers.audit.os.statvfs", nearly_full)
    with pytest.raises(Full):
        log.require()
    log.close()


def checkpoints(log: Audit, caplog: pytest.LogCaptureFixture) -> list[str]:
    point = log.point()
    assert point is not None
    log.checkpoint(point)
    return [record.getMessage() for record in caplog.records if "checkpoint" in record.name]


def test_a_checkpoint_finds_a_cut_that_is_older_and_the_younger_are_counted(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # of everything else: a checkpoint is always told
    caplog.set_level(logging.INFO, logger=audits.checkpoints_log.name)
    log = opened(tmp_path, clock)
    for _ in range(10):
        log.announce("participant_joined", WHO)
    journal = [f"Nov 18 11:06:40 host d4e-sfu[7]: INFO x {line}" for line in checkpoints(log, caplog)]
    assert log.point() is None, "nothing has happened since"
    for _ in range(4):
        log.announce("participant_joined", WHO)
    log.close()
    report = examine(tmp_path, SECRET, journal)
    assert (report.problems, report.last, report.younger) == ([], 15, 4)
    file = segments(tmp_path)[0]
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:12]))
    assert (examine(tmp_path, SECRET, journal).problems, examine(tmp_path, SECRET, journal).younger) == ([], 1)
    file.write_text("".join(lines[:8]))
    assert examine(tmp_path, SECRET, []).problems == []
    expected = ["records 9 to 11 are missing at the end: a checkpoint has seen them"]
    assert examine(tmp_path, SECRET, journal).problems == expected
    # Whoever has stolen the machine but not the secret cannot make one up, nor move one.
    forged = [re.sub(r"seq=\d+", "seq=8", line) for line in journal]
    assert examine(tmp_path, SECRET, forged).problems == [
        "the checkpoint of record 8 at 2026-11-18T11:06:40.000Z is not signed by this log's secret"
    ]
    file.unlink()
    assert examine(tmp_path, SECRET, []).problems == [
        f"{tmp_path} holds no record: none was written there, or all were removed"
    ]


def test_a_month_has_its_file_and_goes_after_its_time_without_a_break(tmp_path: Path, clock: Clock) -> None:
    log = opened(tmp_path, clock, keep=60 * DAY)
    for _ in range(5):
        for _ in range(3):
            log.announce("participant_joined", WHO)
        for file in segments(tmp_path):
            if file.name == f"audit-{audits._month(clock.now)}.jsonl":
                os.utime(file, (clock.now, clock.now))
        clock.now += 31 * DAY
    log.stop()
    names = [file.name for file in segments(tmp_path)]
    assert names == ["audit-2027-03.jsonl", "audit-2027-04.jsonl"]
    assert events(tmp_path).count("expired") == 2, "the others went with the months that they were in"
    report = examine(tmp_path, SECRET, [])
    assert report.problems == []
    assert report.first > 1
    segments(tmp_path)[0].unlink()
    assert "are missing at the beginning" in examine(tmp_path, SECRET, []).problems[0]


def test_the_command_line_of_an_auditor(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=audits.checkpoints_log.name)
    log = opened(tmp_path / "audit", clock)
    journal = tmp_path / "journal"
    journal.write_text("\n".join(checkpoints(log, caplog)))
    log.announce("participant_joined", WHO)
    log.close()
    (tmp_path / "secret").write_bytes(b"s" * 40)
    (tmp_path / "secret").chmod(0o600)
    config = tmp_path / "c.yaml"
    config.write_text("audit: {folder: audit, secret_file: secret}")
    command = ["audit", "verify", "--config", str(config), "--checkpoints", str(journal)]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "2 records, 1 to 2: right; the last 1 are younger than the last checkpoint" in shown.err
    file = segments(tmp_path / "audit")[0]
    file.write_text(file.read_text().replace('"join"', '"gone"'))
    assert main(command) == 1
    shown = capsys.readouterr()
    assert shown.out == f"{file.name}:2: record 2 was changed, or what stood before it was\n"
    assert main(["audit", "pseudonym", "--config", str(config), "an@example"]) == 0
    assert capsys.readouterr().out.strip() in file.read_text()
    assert main(["audit", "pseudonym", "--config", str(config), "--room", "ward"]) == 0
    assert capsys.readouterr().out.strip() == SECRET.pseudonym("room", "ward")
    assert main(["audit", "public-key", "--config", str(config)]) == 0
    assert capsys.readouterr().out.strip() == SECRET.public
    config.write_text("audit: {}")
    assert main(command) == 78
