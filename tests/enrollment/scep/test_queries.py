"""Certificates and CRLs by issuer and serial number."""

from __future__ import annotations

import pytest
from cryptography import x509
from tests.enrollment.scep.conftest import CHALLENGE, Desk
from tests.support.authority import OPERATOR
from tests.support.scep_client import Device, Reply

from intaglio.asn1 import der
from intaglio.authority import crls
from intaglio.enrollment.scep.messages import MessageType
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.names import Name


async def ask(device: Device, kind: MessageType, issuer: Name, serial: bytes) -> Reply:
    return await device.send(await device.message(der.sequence(issuer.der, der.integer(serial)), kind))


async def make_crl(desk: Desk) -> None:
    authority = desk.enrollment.authority
    ca = (await authority.current()).ca("demo~issuing")
    await crls.issue_crl(authority, OPERATOR, ca)


async def certified(desk: Desk) -> tuple[Device, CertificateInfo]:
    device = desk.device()
    return device, (await device.enrol(CHALLENGE)).certificate


async def test_a_certificate_is_found_by_its_serial_number(desk: Desk) -> None:
    device, info = await certified(desk)
    reply = await ask(device, MessageType.GET_CERT, info.issuer, info.serial)
    assert reply.certificate.der == info.der


@pytest.mark.parametrize("kind", [MessageType.GET_CERT, MessageType.GET_CRL])
async def test_what_the_ca_never_issued_is_a_bad_certificate_id(desk: Desk, kind: MessageType) -> None:
    device, info = await certified(desk)
    assert (await ask(device, kind, info.issuer, b"\x01")).fail_info == "4"
    assert (await ask(device, kind, Name.parse("CN=Somebody else"), info.serial)).fail_info == "4"


@pytest.mark.parametrize("own", [False, True])
async def test_the_crl_of_a_certificate_or_of_the_ca_itself_is_found(desk: Desk, own: bool) -> None:
    await make_crl(desk)
    device, info = await certified(desk)
    wanted = (await device.office())[1] if own else info
    (crl,) = (await ask(device, MessageType.GET_CRL, wanted.issuer, wanted.serial)).crls
    assert x509.load_der_x509_crl(crl).issuer.rfc4514_string() == "CN=issuing,O=Demo,C=CA"


@pytest.mark.parametrize("kind", [MessageType.GET_CERT, MessageType.GET_CRL])
async def test_both_can_be_switched_off(desk: Desk, kind: MessageType) -> None:
    await make_crl(desk)
    device, info = await certified(desk)
    await desk.change(options={"get_certificates": False, "get_crls": False})
    assert (await ask(device, kind, info.issuer, info.serial)).fail_info == "2"
