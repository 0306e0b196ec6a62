"""The report as text, JSON, SARIF and HTML."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from tests.mtls.posture.states import GOOD, NOW, certified, ingress
from tests.mtls.posture.test_checks import waiver
from tests.support.sarif import assert_sarif

from intaglio.mtls.posture import forms
from intaglio.mtls.posture.report import judged

WAIVED = judged(certified(not_after=NOW + timedelta(hours=80)), [waiver()])


class Tags(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onclick"}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_text_says_what_is_wrong_and_what_to_do() -> None:
    text = forms.as_text(judged(ingress(mode="off")))
    assert "PC-08 FAIL" in text
    assert "demo~web: It asks nobody for a certificate (off)." in text
    assert "[ ] Step 4" in text
    assert "1 checks failed" in text


def test_text_shows_the_waiver_with_its_owner_reason_and_end() -> None:
    text = forms.as_text(WAIVED)
    assert "(waived until 2026-07-01T12:00:00Z by alice: It is replaced in July.)" in text
    assert "No check failed" in text


def test_json_has_every_check_and_is_json() -> None:
    found = json.loads(json.dumps(forms.as_json(WAIVED)))
    assert len(found["results"]) == 25
    assert found["made_at"] == "2026-06-01T12:00:00Z"
    assert found["barriers"][0]["proved"] is True


def test_sarif_is_what_the_standard_wants() -> None:
    for found in (WAIVED, judged(GOOD), judged(ingress(mode="off"))):
        assert_sarif(json.loads(json.dumps(forms.as_sarif(found))))


def test_sarif_suppresses_what_is_waived_and_names_the_rule() -> None:
    run = forms.as_sarif(WAIVED)["runs"][0]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]][:2] == ["PC-01", "PC-02"]
    (result,) = run["results"]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "PC-06"
    assert result["suppressions"][0]["status"] == "accepted"


def test_fingerprint_of_a_finding_stays_the_same() -> None:
    first, second = (
        forms.as_sarif(judged(replace(ingress(mode="off"), now=now)))["runs"][0]["results"][0]
        for now in (NOW, NOW + timedelta(hours=1))
    )
    assert first["partialFingerprints"] == second["partialFingerprints"]


def test_page_has_no_scripts_and_nothing_from_elsewhere() -> None:
    page = Tags(forms.as_html(WAIVED))
    assert not page.tags & {"script", "img", "link", "iframe", "form"}
    assert "It is replaced in July." in page.text


@given(st.text(min_size=1))
def test_names_cannot_become_markup(name: str) -> None:
    plain = Tags(forms.as_html(judged(ingress(mode="off")))).tags
    assert Tags(forms.as_html(judged(ingress(mode="off", name=f"<script>{name}</script>")))).tags == plain


def test_good_report_has_no_results_in_sarif() -> None:
    assert forms.as_sarif(judged(GOOD))["runs"][0]["results"] == []
