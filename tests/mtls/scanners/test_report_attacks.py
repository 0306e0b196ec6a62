"""Reports of what others have written: file names chosen to break or to fake them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.sarif import assert_sarif

from intaglio.mtls.posture.scanners import report
from intaglio.mtls.posture.scanners.code import scan_code
from intaglio.mtls.posture.scanners.findings import Finding, Report
from intaglio.mtls.posture.scanners.patterns import RULES


@pytest.mark.parametrize("name", [b"a b.sh", b"a\nb.sh", b"\x1b[2J.sh", b"\xff\xfe.sh", b"c:d.sh", "ü%2e.sh".encode()])
def test_file_of_any_name_is_reported_in_every_form(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_text("curl -k https://x\n")
    found = scan_code(tmp_path)
    assert len(found.findings) == 1
    log = json.loads(json.dumps(report.as_sarif(found, RULES)))
    assert_sarif(log)
    assert json.loads(json.dumps(report.as_json(found)))["findings"][0]["fingerprint"]
    text = report.as_text(found)
    assert len(text.splitlines()) == 3, "the name of a file has made a line of its own"


@given(st.text(min_size=1, max_size=80), st.text(max_size=80), st.integers(1, 10**6) | st.none())
def test_report_is_sarif_whatever_was_found(place: str, text: str, line: int | None) -> None:
    rule = RULES[0]
    found = Report([Finding(rule, place, text or "x", line)], 1, [(place, text or "why")])
    assert_sarif(json.loads(json.dumps(report.as_sarif(found, RULES))))
    assert len(report.as_text(found).split("\n")) == 4
