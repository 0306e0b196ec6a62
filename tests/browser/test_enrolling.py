"""From the security code to a file that key stores take."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from playwright.sync_api import Route
from tests.browser.conftest import NewCode, NewVisit
from tests.browser.enrolment import (
    CREATE,
    READY,
    Enrolment,
    Opened,
    Visit,
    everything_sent,
    hosts,
    keytool,
    spellings,
)
from tests.support.programs import run

_MODERN = ("AES-256-CBC", "hmacWithSHA256", "MAC: sha256")
_COMPATIBLE = ("pbeWithSHA1And3-KeyTripleDES-CBC", "MAC: sha1")


def _form_of(file: Path, password: str) -> str:
    secret = file.with_suffix(".password")
    secret.write_text(password)
    command = ["openssl", "pkcs12", "-in", file, "-passin", f"file:{secret}", "-info", "-noout", "-legacy"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def test_a_code_becomes_a_file_that_key_stores_open(
    visit: Visit, enrolment: Enrolment, new_code: NewCode, tmp_path: Path
) -> None:
    code, email = new_code()
    download = visit.enrol(code, email)
    file = tmp_path / download.suggested_filename
    download.save_as(file)
    opened = Opened.by_openssl(file, visit.password)

    leaf = x509.load_pem_x509_certificate(opened.certificate.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert email in names.get_values_for_type(x509.RFC822Name)
    assert leaf.public_key() == load_pem_private_key(opened.key.encode(), None).public_key()
    (tmp_path / "leaf.pem").write_text(opened.certificate)
    (tmp_path / "chain.pem").write_text("".join(opened.chain))
    run("openssl", "verify", "-partial_chain", "-CAfile", tmp_path / "chain.pem", tmp_path / "leaf.pem")
    assert all(word in _form_of(file, visit.password) for word in _MODERN)
    assert f"{leaf.serial_number:x}" in visit.page.locator(".rows").first.inner_text().lower().replace(":", "")

    assert "PrivateKeyEntry" in keytool(file, visit.password)
    secret = file.with_suffix(".password")
    assert email in run("pk12util", "-l", file, "-w", secret)


def test_only_the_request_for_a_certificate_leaves_the_browser(
    visit: Visit, enrolment: Enrolment, new_code: NewCode, tmp_path: Path
) -> None:
    code, email = new_code()
    download = visit.enrol(code, email)
    file = tmp_path / "identity.p12"
    download.save_as(file)
    with visit.page.expect_download():
        visit.page.get_by_role("button", name="Download the compatible form").click()
    visit.page.get_by_role("button", name="Copy password").click()

    posts = [(urlsplit(each.url).path, each.post_data_json) for each in visit.sent if each.method == "POST"]
    assert [sorted(body) for _, body in posts] == [["code", "email"], ["csr"], []]
    assert posts[2][0].endswith("/downloaded")
    request = x509.load_pem_x509_csr(posts[1][1]["csr"].encode())
    assert request.is_signature_valid

    key = load_pem_private_key(Opened.by_openssl(file, visit.password).key.encode(), None)
    scalar = key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    sent = everything_sent(visit.sent)
    secrets = [visit.password.encode(), visit.password.replace("-", "").encode(), file.read_bytes(), scalar]
    for secret in secrets:
        assert not any(spelling in sent for spelling in spellings(secret))
    assert b"PRIVATE KEY" not in sent
    assert code.encode() not in b"\n".join(each.url.encode() for each in visit.sent)
    assert hosts(visit.sent) == {urlsplit(enrolment.page_url).netloc}


def test_openssl_reads_the_request_of_the_browser(visit: Visit, new_code: NewCode, tmp_path: Path) -> None:
    code, email = new_code()
    visit.enrol(code, email)
    request = next(each.post_data_json["csr"] for each in visit.sent if each.url.endswith("/csr"))
    (tmp_path / "request.pem").write_text(request)
    text = run("openssl", "req", "-in", tmp_path / "request.pem", "-verify", "-noout", "-text")
    assert "verify OK" in text
    assert "prime256v1" in text
    assert f"email:{email}" in text
    assert "challengePassword" in text


def test_the_other_form_holds_the_same_key_and_certificate_under_the_same_password(
    visit: Visit, enrolment: Enrolment, new_code: NewCode, tmp_path: Path
) -> None:
    code, email = new_code()
    visit.enrol(code, email).save_as(tmp_path / "first.p12")
    with visit.page.expect_download() as download:
        visit.page.get_by_role("button", name="Download the compatible form").click()
    download.value.save_as(tmp_path / "second.p12")
    assert all(word in _form_of(tmp_path / "second.p12", visit.password) for word in _COMPATIBLE)
    first, second = (Opened.by_openssl(tmp_path / name, visit.password) for name in ("first.p12", "second.p12"))
    assert (first.key, first.certificate, first.chain) == (second.key, second.certificate, second.chain)
    assert "PrivateKeyEntry" in keytool(tmp_path / "second.p12", visit.password)
    run("pk12util", "-l", tmp_path / "second.p12", "-w", tmp_path / "second.password")
    assert len([each for each in visit.sent if each.url.endswith("/csr")]) == 1


def test_the_apple_profile_carries_the_compatible_form(visit: Visit, new_code: NewCode, tmp_path: Path) -> None:
    import plistlib

    visit.enrol(*new_code())
    visit.page.get_by_role("tab", name="iPhone / iPad").first.click()
    with visit.page.expect_download() as download:
        visit.page.get_by_role("link", name="Apple configuration profile").locator("visible=true").click()
    download.value.save_as(tmp_path / "identity.mobileconfig")
    profile = plistlib.loads((tmp_path / "identity.mobileconfig").read_bytes())
    payload = profile["PayloadContent"][0]
    assert (profile["PayloadType"], payload["PayloadType"]) == ("Configuration", "com.apple.security.pkcs12")
    assert "Password" not in payload
    (tmp_path / "from-profile.p12").write_bytes(payload["PayloadContent"])
    assert all(word in _form_of(tmp_path / "from-profile.p12", visit.password) for word in _COMPATIBLE)


def test_the_steps_show_where_one_stands(visit: Visit, new_code: NewCode) -> None:
    titles = ["Details", "Key gen", "Sign", "Download"]
    assert visit.steps() == list(zip(titles, ["current", "waiting", "waiting", "waiting"], strict=True))
    held: list[Route] = []
    visit.page.route("**/csr", lambda route: held.append(route))
    visit.fill(*new_code())
    visit.page.get_by_role("button", name=CREATE).click()
    visit.page.get_by_text("Waiting for the certificate authority").last.wait_for()
    assert visit.steps() == list(zip(titles, ["done", "done", "current", "waiting"], strict=True))
    held[0].continue_()
    visit.page.get_by_role("heading", name=READY).wait_for()
    assert visit.steps() == list(zip(titles, ["done", "done", "done", "current"], strict=True))


def test_the_making_of_the_key_is_announced(new_visit: NewVisit, enrolment: Enrolment, new_code: NewCode) -> None:
    visit = new_visit()
    # Making a P-256 key takes a millisecond: hold it, so that the text can be read.
    visit.page.add_init_script(
        "const make = crypto.subtle.generateKey.bind(crypto.subtle);"
        "const held = new Promise((go) => { window.release = go; });"
        "crypto.subtle.generateKey = async (...all) => { await held; return make(...all); };"
    )
    visit.open(enrolment.page_url)
    visit.fill(*new_code())
    visit.page.get_by_role("button", name=CREATE).click()
    visit.page.get_by_text("Generating ECDSA P-256 key pair").last.wait_for()
    visit.page.evaluate("window.release()")
    visit.page.get_by_role("heading", name=READY).wait_for()


def test_the_password_is_long_and_can_be_copied(
    new_visit: NewVisit, enrolment: Enrolment, new_code: NewCode
) -> None:
    visit = new_visit(permissions=["clipboard-read", "clipboard-write"]).open(enrolment.page_url)
    visit.enrol(*new_code())
    visit.page.get_by_role("button", name="Copy password").click()
    visit.page.get_by_text("Copied", exact=True).wait_for()
    assert visit.page.evaluate("navigator.clipboard.readText()") == visit.password
    assert len(visit.password.replace("-", "")) * 4.95 > 100


def test_the_link_downloads_again_what_was_blocked(visit: Visit, new_code: NewCode, tmp_path: Path) -> None:
    visit.enrol(*new_code()).save_as(tmp_path / "first.p12")
    with visit.page.expect_download() as download:
        visit.page.get_by_role("link", name="Download it here").click()
    download.value.save_as(tmp_path / "second.p12")
    assert (tmp_path / "first.p12").read_bytes() == (tmp_path / "second.p12").read_bytes()


def test_the_user_is_told_to_keep_the_file_secret(visit: Visit, new_code: NewCode) -> None:
    visit.enrol(*new_code())
    text = visit.page.get_by_text("Never share it, mail it, or commit it to source control").inner_text()
    assert "password manager or an encrypted vault" in text


def test_what_was_downloaded_is_on_record(visit: Visit, enrolment: Enrolment, new_code: NewCode) -> None:
    with visit.page.expect_response(lambda answer: answer.url.endswith("/downloaded")) as told:
        visit.enrol(*new_code())
    assert told.value.status == 204


def test_nothing_is_kept_in_the_browser(visit: Visit, new_code: NewCode) -> None:
    visit.enrol(*new_code())
    stores = "localStorage.length, sessionStorage.length, (await indexedDB.databases()).length"
    assert visit.page.evaluate(f"async () => [{stores}, document.cookie]") == [0, 0, 0, ""]
    visit.page.reload()
    visit.page.get_by_role("button", name=CREATE).wait_for()
    assert visit.form.get_by_label("Security code").input_value() == ""


def test_a_code_in_the_address_is_not_read_and_not_left_there(
    new_visit: NewVisit, enrolment: Enrolment
) -> None:
    visit = new_visit().open(f"{enrolment.page_url}?code=SECRET-CODE&domain={enrolment.domain}")
    assert visit.form.get_by_label("Security code").input_value() == ""
    assert visit.page.url == f"{enrolment.page_url}?domain={enrolment.domain}"


@pytest.mark.parametrize(
    ("user_agent", "first", "form"),
    [
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Safari/605.1.15", "macOS", _COMPATIBLE),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15", "iPhone / iPad", _COMPATIBLE),
        ("Mozilla/5.0 (Android 12; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0", "Android", _COMPATIBLE),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0", "Windows", _MODERN),
    ],
    ids=["macos", "ios", "android", "windows"],
)
def test_each_system_gets_its_form_and_its_instructions_first(
    new_visit: NewVisit, enrolment: Enrolment, new_code: NewCode, tmp_path: Path,
    user_agent: str, first: str, form: tuple[str, ...],
) -> None:  # fmt: skip
    visit = new_visit(user_agent=user_agent)
    visit.page.add_init_script("delete Navigator.prototype.userAgentData")
    visit.open(enrolment.page_url)
    visit.enrol(*new_code()).save_as(tmp_path / "identity.p12")
    assert all(word in _form_of(tmp_path / "identity.p12", visit.password) for word in form)
    selected = visit.page.get_by_role("tablist", name="Operating systems").get_by_role("tab", selected=True)
    assert selected.inner_text() == first


@pytest.mark.parametrize(
    ("system", "count"), [("macOS", 3), ("Windows", 5), ("iPhone / iPad", 6), ("Android", 7)]
)
def test_installation_is_told_step_by_step(visit: Visit, new_code: NewCode, system: str, count: int) -> None:
    visit.enrol(*new_code())
    visit.page.get_by_role("tablist", name="Operating systems").get_by_role("tab", name=system).click()
    panel = visit.page.get_by_role("tabpanel", name=system).first
    assert len(panel.get_by_role("listitem").all()) == count


def test_the_page_says_how_certificates_come_about(visit: Visit) -> None:
    stages = visit.page.get_by_role("region", name="How your certificate is created").get_by_role("listitem").all()
    assert [stage.inner_text().splitlines()[0] for stage in stages] == ["Browser", "Browser", "Server", "Browser"]
    assert "PKCS#10" in stages[1].inner_text()


def test_the_header_follows_the_policy_of_the_server(visit: Visit, enrolment: Enrolment) -> None:
    facts = visit.page.get_by_label("About the certificate")
    assert "ECDSA P-256" in facts.inner_text()
    assert "5 days" in facts.inner_text()
    assert "until you delete that" in facts.inner_text()
    enrolment.set("enrolment", validity_days=3, key_algorithms=["EC P-384"])
    try:
        visit.open(enrolment.page_url)
        assert "ECDSA P-384" in facts.inner_text()
        assert "3 days" in facts.inner_text()
    finally:
        enrolment.set("enrolment", validity_days=5, key_algorithms=["EC P-256"])


def test_the_ca_certificate_can_be_fetched_and_compared(
    visit: Visit, enrolment: Enrolment, server_ca: Path, tmp_path: Path
) -> None:
    trust = visit.page.get_by_role("region", name="Trust the certificate authority")
    links = {"CA certificate (.pem)": "pem", "CA certificate (.cer)": "cer", "Apple profile": "mobileconfig"}
    for name, suffix in links.items():
        with visit.page.expect_download() as download:
            trust.get_by_role("link", name=name).click()
        download.value.save_as(tmp_path / f"ca.{suffix}")
    shown = "".join(trust.locator(".fingerprint").first.inner_text().split())
    of_file = run("openssl", "x509", "-inform", "DER", "-in", tmp_path / "ca.cer", "-noout", "-fingerprint", "-sha256")
    assert shown == of_file.strip().split("=")[1]
    assert shown in run("openssl", "x509", "-in", tmp_path / "ca.pem", "-noout", "-fingerprint", "-sha256")
    der = (tmp_path / "ca.cer").read_bytes()
    assert base64.b64encode(der)[:60] in b"".join((tmp_path / "ca.mobileconfig").read_bytes().split())
