"""The installed certificate in use: the browser presents it, the server recognises it, the page renews it."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Page, Playwright
from tests.browser.conftest import NewCode
from tests.browser.enrolment import Enrolment, Home, Opened, Visit, curl
from tests.support.product import eventually


def _installed(visit: Visit, new_code: NewCode, home: Home, folder: Path) -> tuple[Path, str, str]:
    """Enrol and install; the file, its password and the address."""
    code, email = new_code()
    file = folder / "identity.p12"
    visit.enrol(code, email).save_as(file)
    home.install(file, visit.password)
    return file, visit.password, email


def test_without_a_certificate_the_test_says_so(visit: Visit, new_code: NewCode) -> None:
    visit.enrol(*new_code())
    visit.page.get_by_role("button", name="Test my certificate").click()
    assert "No certificate was presented" in visit.alert()


def test_an_installed_certificate_is_presented_and_recognised(
    visit: Visit, new_code: NewCode, enrolment: Enrolment, home: Home, playwright: Playwright, tmp_path: Path
) -> None:
    _, _, email = _installed(visit, new_code, home, tmp_path)
    with home.browser(playwright, presents_to=enrolment.mtls_host) as context:
        page = context.new_page()
        page.goto(f"{enrolment.mtls_host}/whoami")
        seen = json.loads(page.inner_text("body"))
        assert seen["email"] == email
        again = Visit.of(context.new_page()).open(enrolment.page_url)
        _recognised(again.page, new_code, again, email)


def _recognised(page: Page, new_code: NewCode, visit: Visit, email: str) -> None:
    """The button of the page says the same, asked from another origin."""
    visit.enrol(*new_code())
    page.get_by_role("button", name="Test my certificate").click()
    page.get_by_role("heading", name="The server recognises you").wait_for()
    assert email in page.locator(".notice.good").inner_text()


def test_the_page_renews_the_certificate_of_the_browser_with_a_new_key(
    visit: Visit, new_code: NewCode, enrolment: Enrolment, home: Home, playwright: Playwright, tmp_path: Path
) -> None:
    file, password, email = _installed(visit, new_code, home, tmp_path)
    with home.browser(playwright, presents_to=enrolment.mtls_host) as context:
        again = Visit.of(context.new_page()).open(enrolment.page_url)
        with again.page.expect_download() as download:
            again.page.get_by_role("button", name="Renew it without a code").click()
        again.page.get_by_role("heading", name="Your new certificate is ready").wait_for()
        renewed = tmp_path / "renewed.p12"
        download.value.save_as(renewed)
        before, after = Opened.by_openssl(file, password), Opened.by_openssl(renewed, again.password)
        assert again.violations == []
    assert before.key != after.key
    assert before.certificate != after.certificate
    assert email.split("@")[0] in download.value.suggested_filename


def test_whoever_lost_a_device_ends_its_certificates_with_a_fresh_code(
    visit: Visit, new_code: NewCode, enrolment: Enrolment, home: Home, server_ca: Path, tmp_path: Path
) -> None:
    file, password, email = _installed(visit, new_code, home, tmp_path)
    form = visit.page.get_by_role("form", name="Lost a device?")
    form.get_by_label("Security code").fill(enrolment.code(email))
    form.get_by_label("E-mail address").fill(email)
    form.get_by_role("button", name="Revoke all my certificates").click()
    visit.page.get_by_role("heading", name="Your certificates are revoked").wait_for()
    assert "1 certificate ended" in form.inner_text()
    config = tmp_path / "curl.conf"
    config.write_text(f'cert = "{file}:{password}"\n')
    asked = ("--cacert", server_ca, "--cert-type", "P12", "--config", config, f"{enrolment.mtls_host}/whoami")
    eventually(lambda: json.loads(curl(*asked).stdout).get("code") == "revoked", what="the certificate is refused")


def test_without_a_certificate_there_is_nothing_to_renew(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Renew it without a code").click()
    assert "No certificate was presented" in visit.alert()


def test_curl_presents_the_file_as_the_page_says(
    visit: Visit, new_code: NewCode, enrolment: Enrolment, server_ca: Path, home: Home, tmp_path: Path
) -> None:
    file, password, email = _installed(visit, new_code, home, tmp_path)
    config = tmp_path / "curl.conf"
    config.write_text(f'cert = "{file}:{password}"\n')
    asked = ("--cacert", server_ca, "--cert-type", "P12", "--config", config, f"{enrolment.mtls_host}/whoami")
    answer = curl(*asked)
    assert json.loads(answer.stdout)["email"] == email, answer
