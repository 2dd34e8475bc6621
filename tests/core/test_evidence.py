"""The auditor's table says what is, and what is not."""

from __future__ import annotations

import re

from d4e_sfu.config import parse
from d4e_sfu.core.evidence import rows_of, table

CLOSED = "media: {workers: 1}\n"
OPEN = "http: {listeners: [{address: 0.0.0.0, port: 80}]}\nadmin: {address: 10.0.0.5}\n"


def test_what_is_not_as_it_should_be_is_said_loudly() -> None:
    config = parse(OPEN)
    for language, word in (("en", "NOT on 0.0.0.0:80"), ("vi", "KHÔNG có ở 0.0.0.0:80")):
        text = table(config, file="x.yaml", language=language)
        assert word in text
        assert len(re.findall(r"\b(?:NOT|NONE|KHÔNG)\b", text)) == 3  # TLS, the audit log, the admin listener


def test_a_default_server_lacks_the_audit_log_alone() -> None:
    text = table(parse(CLOSED), file="x.yaml", language="en")
    assert re.findall(r"\b(?:NOT|NONE)\b", text) == ["NONE"]


def test_every_row_is_in_both_languages_with_a_setting_and_a_command() -> None:
    english, vietnamese = (list(rows_of(parse(OPEN), "x.yaml", language)) for language in ("en", "vi"))
    assert len(english) == len(vietnamese) >= 12
    for one, other in zip(english, vietnamese, strict=True):
        assert one.control != other.control
        assert one.proof == other.proof
        assert one.setting
        assert other.setting
        assert len(one.proof) > 5


def test_the_table_claims_no_certificate() -> None:
    assert "No certificate of conformity is claimed" in table(parse(CLOSED), file="x.yaml", language="en")
    assert "Không tuyên bố chứng nhận" in table(parse(CLOSED), file="x.yaml", language="vi")
