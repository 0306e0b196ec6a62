"""Configuration profiles for Apple devices, read as a device reads them."""

from __future__ import annotations

import plistlib
from typing import Any

import pytest
from tests.support.foreign import ForeignCa

from intaglio.enrollment.scep.apple import configuration_profile
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.names import Name

URL = "http://pki.example:8080/scep/main/demo~phones/scep-digital-signature-key-encipherment/"
SUBJECT = Name.parse("CN=%SerialNumber%,emailAddress=a@example.com,O=Demo")


@pytest.fixture(scope="module")
def chain() -> list[CertificateInfo]:
    return [read_certificate(ForeignCa(name).der) for name in ("Phones", "Root")]


def payloads(made: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    whole = plistlib.loads(made)
    return whole, whole["PayloadContent"]


def test_a_device_trusts_the_ca_and_asks_for_a_certificate(chain: list[CertificateInfo]) -> None:
    made = configuration_profile(URL, chain, SUBJECT, sans={"dNSName": ["a.example"]}, challenge="open sesame")
    whole, (root, issuing, scep) = payloads(made)
    assert whole["PayloadType"] == "Configuration"
    assert (root["PayloadType"], root["PayloadContent"]) == ("com.apple.security.root", chain[1].der)
    assert (issuing["PayloadType"], issuing["PayloadContent"]) == ("com.apple.security.pkcs1", chain[0].der)
    assert scep["PayloadType"] == "com.apple.security.scep"
    content = scep["PayloadContent"]
    assert content["URL"] == URL
    mail = ["1.2.840.113549.1.9.1", "a@example.com"]
    assert content["Subject"] == [[["O", "Demo"]], [mail], [["CN", "%SerialNumber%"]]]
    assert content["SubjectAltName"] == {"dNSName": ["a.example"]}
    assert (content["Challenge"], content["Keysize"], content["Key Usage"]) == ("open sesame", 2048, 5)


@pytest.mark.parametrize(
    ("usages", "number"),
    [(["digitalSignature"], 1), (["keyEncipherment"], 4), (["digitalSignature", "nonRepudiation"], 1)],
)
def test_the_usages_are_those_of_the_profile(chain: list[CertificateInfo], usages: list[str], number: int) -> None:
    _, (*_, scep) = payloads(configuration_profile(URL, chain, SUBJECT, key_usage=usages))
    assert scep["PayloadContent"]["Key Usage"] == number
    assert "Challenge" not in scep["PayloadContent"]


def test_a_profile_that_is_made_again_replaces_itself(chain: list[CertificateInfo]) -> None:
    first = configuration_profile(URL, chain, SUBJECT)
    assert configuration_profile(URL, chain, SUBJECT) == first
    whole, parts = payloads(first)
    other, _ = payloads(configuration_profile(URL.replace("phones", "tablets"), chain, SUBJECT))
    identifiers = [each["PayloadUUID"] for each in (whole, *parts)]
    assert len(set(identifiers)) == len(identifiers)
    assert other["PayloadUUID"] != whole["PayloadUUID"]
