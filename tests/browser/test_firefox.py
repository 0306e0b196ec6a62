"""The enrolment page in Firefox, which has key and certificate code of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.browser.conftest import NewCode
from tests.browser.enrolment import CREATE, READY, Enrolment, Opened
from tests.browser.firefox import FirefoxProfile
from tests.support.product import eventually


@pytest.fixture
def profile(tmp_path: Path, server_ca: Path) -> FirefoxProfile:
    return FirefoxProfile(tmp_path / "profile", server_ca)


def test_firefox_enrols_and_presents_the_certificate(
    enrolment: Enrolment, new_code: NewCode, profile: FirefoxProfile
) -> None:
    code, email = new_code()
    with profile.browser() as firefox:
        firefox.open(enrolment.page_url)
        eventually(lambda: "5 days" in firefox.text(), what="the policy is shown")
        firefox.fill("Security code", code)
        firefox.fill("E-mail address", email)
        firefox.click(CREATE)
        eventually(lambda: READY in firefox.text(), what=lambda: f"enrolled: {firefox.text()[:2000]}")
        password = str(firefox.evaluate("return document.querySelector('.secret code').innerText"))
        eventually(lambda: list(profile.downloads.glob("*.p12")), what="the file is downloaded")
        file = next(profile.downloads.glob("*.p12"))
        eventually(lambda: file.stat().st_size > 1000, what="the file is complete")
    assert "CERTIFICATE" in Opened.by_openssl(file, password).certificate
    profile.install(file, password)
    with profile.browser() as firefox:
        firefox.open(f"{enrolment.mtls_host}/whoami")
        assert json.loads(firefox.text())["email"] == email
        firefox.open(enrolment.page_url)
        eventually(lambda: "5 days" in firefox.text(), what="the policy is shown")
        firefox.click("Renew it without a code")
        eventually(lambda: "Your new certificate is ready" in firefox.text(), what=lambda: firefox.text()[:2000])
        firefox.click("Test my certificate")
        eventually(lambda: "The server recognises you" in firefox.text(), what=lambda: firefox.text()[-3000:])
