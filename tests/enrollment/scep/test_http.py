"""SCEP over HTTP: operations, spellings of the URL, messages in a URL, and who may ask at all."""

from __future__ import annotations

import base64
from urllib.parse import quote

import httpx
import pytest
from tests.enrollment.scep.conftest import CHALLENGE, Call, Desk

TYPES = {"GetCACaps": "text/plain", "GetCACert": "application/x-x509-ca-ra-cert"}


async def test_capabilities_are_those_that_are_there(desk: Desk) -> None:
    answer = await desk.device().get("GetCACaps")
    assert answer.headers["content-type"].startswith("text/plain")
    told = {"AES", "POSTPKIOperation", "Renewal", "SHA-256", "SHA-384", "SHA-512", "SCEPStandard"}
    assert set(answer.text.split("\n")) - {""} == told
    await desk.change(options={"legacy": ["3des", "sha1"]})
    assert set((await desk.device().get("GetCACaps")).text.split()) == told | {"DES3", "SHA-1"}


async def test_the_registration_authority_comes_before_the_chain(desk: Desk) -> None:
    registration, issuing, root = await desk.device().office()
    assert registration.subject.rfc4514 == "CN=issuing SCEP RA,O=Demo,C=CA"
    assert registration.key_usage == {"digitalSignature", "keyEncipherment"}
    assert registration.verify_signed_by(issuing.spki)
    assert (issuing.is_ca, root.is_ca, registration.is_ca) == (True, True, False)


@pytest.mark.parametrize(
    "ending", ["", "/", "/pkiclient.exe", "/nop/", "/nop/pkiclient.exe", "/cgi-bin/pkiclient.exe/"]
)
@pytest.mark.parametrize("operation", ["GetCACaps", "getcacaps"])
async def test_every_spelling_of_the_url_is_understood(desk: Desk, ending: str, operation: str) -> None:
    answer = await desk.http.get(desk.path + ending, params={"operation": operation, "message": "CAIdentifier"})
    assert answer.status_code == 200


async def test_a_profile_may_be_written_with_underscores(desk: Desk) -> None:
    path = "/scep/main/demo~issuing/scep_digital_signature_key_encipherment/"
    assert (await desk.http.get(path, params={"operation": "GetCACaps"})).status_code == 200


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/scep/Main/demo~issuing/scep-digital-signature-key-encipherment", "Main"),
        ("/scep/main/demo~nobody/scep-digital-signature-key-encipherment", "demo~nobody"),
        ("/scep/main/demo~issuing/scep-non-repudiation", "scep-non-repudiation"),
        ("/scep/main/demo~issuing/scep-digital-signature-key-encipherment/intune/", "intune"),
        ("/scep/main/some-digital-id/mdm", ""),
    ],
)
async def test_what_is_not_there_is_named(desk: Desk, path: str, named: str) -> None:
    answer = await desk.http.get(path, params={"operation": "GetCACaps"})
    assert answer.status_code == 404
    assert named in answer.text


async def test_an_endpoint_that_is_switched_off_is_not_there(desk: Desk) -> None:
    await desk.change(enabled=False)
    assert (await desk.device().get("GetCACert")).status_code == 404


@pytest.mark.parametrize(("operation", "status"), [("GetEverything", 501), ("", 400)])
async def test_an_unknown_operation_is_refused(desk: Desk, operation: str, status: int) -> None:
    assert (await desk.device().get(operation)).status_code == status


async def test_only_listed_networks_may_ask(new_desk: Call) -> None:
    desk = await new_desk(networks=("198.51.100.0/24",))
    device = desk.device()
    for operation in TYPES:
        assert (await device.get(operation)).status_code == 403
    assert (await desk.audited("scep.getcacaps"))[0]["code"] == "source-not-allowed"
    await desk.change(networks=("192.0.2.0/24",))
    assert (await device.enrol(CHALLENGE)).status == "0"


# ---- messages in a URL -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling",
    [
        lambda text: quote(text, safe=""),  # as it should be
        lambda text: quote(text, safe="+/="),  # Cisco IOS
        lambda text: text.replace("+", "%20"),  # a proxy that took "+" for a space
        lambda text: quote("\n".join(text[i : i + 64] for i in range(0, len(text), 64)) + "\n"),  # OpenSSL
        lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),  # Java
    ],
)
async def test_messages_are_taken_from_the_url_however_they_are_escaped(desk: Desk, spelling: object) -> None:
    device = desk.device()
    text = base64.b64encode(await device.message(device.request(challenge=CHALLENGE))).decode()
    assert "+" in text
    url = f"{desk.path}?operation=PKIOperation&message={spelling(text)}"  # type: ignore[operator]
    reply = await device.read(await desk.http.get(httpx.URL(url)))
    assert reply.certificate.subject.rfc4514 == "CN=device-1"


async def test_a_message_may_be_posted_in_base64(desk: Desk) -> None:
    device = desk.device()
    text = base64.encodebytes(await device.message(device.request(challenge=CHALLENGE)))
    assert (await device.read(await device.post(text))).status == "0"


@pytest.mark.parametrize("message", ["", "!!!!", "MIIB"])
async def test_what_is_no_message_is_refused(desk: Desk, message: str) -> None:
    answer = await desk.http.get(desk.path, params={"operation": "PKIOperation", "message": message})
    assert answer.status_code == 400
    posted = await desk.http.post(desk.path, params={"operation": "PKIOperation"}, content=message.encode())
    assert posted.status_code == 400


async def test_an_oversized_message_is_refused(desk: Desk) -> None:
    answer = await desk.device().post(b"\x30\x84" + bytes(300_000))
    assert answer.status_code == 413
    assert (await desk.device().post(b"\x30\x84" + bytes(140_000))).status_code == 413
