"""Rules, alerts and dashboards belong to the metrics that the server really has, and to run-books that are there.

promtool is Debian's (`make promtool` keeps it in build/tools); the metrics are those of a server that was started here.
"""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.server import TOP, running

FILES = TOP / "ansible/roles/monitoring/files"
PROMTOOL = TOP / "build/tools/promtool"
BOARDS = sorted((FILES / "dashboards").glob("*.json"))
# Of Debian's node exporter 1.5 and of Prometheus itself; the rest has to be in a scrape.
OTHERS = {
    "up", "node_cpu_seconds_total", "node_filesystem_avail_bytes", "node_netstat_Udp_RcvbufErrors",
    "node_timex_offset_seconds", "node_timex_sync_status",
}  # fmt: skip
# Written by the backup (roles/backup/templates/backup.sh.j2), read by node exporter.
OTHERS.add("d4e_sfu_backup_last_success_timestamp_seconds")
METRIC = re.compile(r"\b(?:d4e_sfu|node|process|instance:d4e_sfu|up)(?:[a-zA-Z0-9_:]*)\b")


def promtool(*words: str, cwd: Path = FILES) -> str:
    assert PROMTOOL.exists(), "make promtool"
    made = subprocess.run([PROMTOOL, *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FILES / "d4e-sfu.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            yield f"{path.stem}: {panel['title']}", panel


def metrics_in(expression: str) -> set[str]:
    """Names of series, without what stands in quotes or in `by (…)`."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\b(?:by|on)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    return {match[0] for match in METRIC.finditer(bare)}


def test_promtool_finds_nothing_to_say_of_the_rules() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", "d4e-sfu.rules.yml")


def test_every_alert_rings_when_it_should_and_not_before() -> None:
    promtool("test", "rules", "d4e-sfu.test.yml")
    tests = yaml.safe_load((FILES / "d4e-sfu.test.yml").read_text())["tests"]
    silent: set[str] = set()
    rings: set[str] = set()
    for each in (alert for test in tests for alert in test["alert_rule_test"]):
        (rings if each["exp_alerts"] else silent).add(each["alertname"])
    assert silent == rings == {alert["alert"] for alert in alerts()}


def test_every_alert_is_told_in_both_languages_and_has_its_run_books() -> None:
    books = {lang: (TOP / f"docs/{lang}/runbooks.md").read_text() for lang in ("en", "vi")}
    for alert in alerts():
        notes = alert["annotations"]
        assert notes["summary"] != notes["summary_vi"]
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert notes["runbook_url"] == f"docs/en/runbooks.md#{alert['alert'].lower()}"
        for lang, text in books.items():
            chapter = re.search(rf"^## {alert['alert']}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
            assert chapter, f"docs/{lang}/runbooks.md has no chapter {alert['alert']}"
            assert len(chapter[1].split()) > 30, f"docs/{lang}/runbooks.md says nothing of {alert['alert']}"
    for text in books.values():
        assert set(re.findall(r"^## (D4e\w+)$", text, re.MULTILINE)) == {alert["alert"] for alert in alerts()}


def test_every_panel_has_a_name_a_meaning_a_unit_and_a_valid_expression(tmp_path: Path) -> None:
    assert len(BOARDS) >= 4
    assert len({json.loads(path.read_text())["uid"] for path in BOARDS}) == len(BOARDS)
    for path in BOARDS:
        ids = [panel["id"] for panel in json.loads(path.read_text())["panels"]]
        assert len(set(ids)) == len(ids)
    made = []
    for name, panel in panels():
        assert len(panel["description"]) > 10, name
        assert panel["fieldConfig"]["defaults"]["unit"], name
        assert panel["targets"], name
        made += [{"record": "x:y:z", "expr": target["expr"].replace("$instance", ".*")} for target in panel["targets"]]
    file = tmp_path / "expressions.yml"
    groups = [{"name": f"panel {number}", "rules": [rule]} for number, rule in enumerate(made)]
    file.write_text(yaml.safe_dump({"groups": groups}))
    promtool("check", "rules", "--lint=none", str(file))


async def test_every_expression_is_of_metrics_that_a_live_scrape_has(tmp_path: Path) -> None:
    async with running(tmp_path, tls=True) as server:
        with urllib.request.urlopen(f"{server.admin}/metrics") as answer:
            scrape = answer.read().decode()
    there = {line.split("{")[0].split(" ")[0] for line in scrape.splitlines() if line and not line.startswith("#")}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    expressions = [(str(rule.get("alert", rule.get("record"))), rule["expr"]) for rule in rules()]
    expressions += [(name, target["expr"]) for name, panel in panels() for target in panel["targets"]]
    for name, expression in expressions:
        named = metrics_in(expression)
        assert named, (name, expression)
        assert not named - there - recorded - OTHERS, (name, expression)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (rule) (rate(d4e_sfu_x_total{instance=~"$instance"}[5m]))', {"d4e_sfu_x_total"}),
        ("a > 1 and on (instance) instance:d4e_sfu_y:ratio > 2", {"instance:d4e_sfu_y:ratio"}),
        ('up{job="d4e-sfu"} == 0', {"up"}),
    ],
)
def test_names_of_metrics_are_found_in_expressions(expression: str, names: set[str]) -> None:
    assert metrics_in(expression) == names
