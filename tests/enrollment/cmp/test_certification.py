"""Certificates by CMP: requests of every kind, protected in every way, and what is said about the names in them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from tests.enrollment.cmp.conftest import NewDesk
from tests.support.cmp_client import CmpClient, certificate_request, check_protection, taken_apart
from tests.support.foreign import ForeignCa
from tests.support.requests import request

from intaglio.asn1 import cmp, crmf, der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.asn1.cmp import Body, InfoTypeAndValue, Status
from intaglio.core import clock
from intaglio.enrollment import pipeline
from intaglio.enrollment.cmp.macs import password_based_mac, pbmac1
from intaglio.x509.certificates import read_certificate

MakeKey = Callable[[], Any]
CERT_PROFILE = "1.3.6.1.5.5.7.4.21"


def name_of(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


async def test_a_first_certificate_by_a_shared_secret(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client()
    answer = await client.request(subject="CN=device-1,O=Example", dns=["device-1.example"])
    assert (answer.body, answer.status, answer.request_id) == (Body.IP, Status.ACCEPTED, 0)
    assert name_of(answer.issued) == "CN=device-1,O=Example"
    names = answer.issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["device-1.example"]
    assert (await client.confirm(answer)).body is Body.PKICONF
    stored = await pipeline.presented(desk.enrollment, desk.endpoint, answer.certificate or b"")
    assert stored is not None
    assert (stored.channel, stored.requester, stored.status) == ("cmp", "device-ref", "valid")


async def test_who_shares_a_secret_is_told_the_root_and_the_certificates_between(new_desk: NewDesk) -> None:
    desk = await new_desk()
    answer = await desk.client().request()
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    assert answer.ca_certificates == ca.chain[-1:]
    assert answer.message.certificates == ca.chain[:-1]


async def test_a_name_comes_into_the_certificate_byte_for_byte(new_desk: NewDesk) -> None:
    desk = await new_desk()
    name = der.sequence(der.set_of(der.sequence(der.oid("2.5.4.3"), der.tlv(der.TELETEX_STRING, b"device"))))
    key = ec.generate_private_key(ec.SECP256R1())
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    wanted = crmf.cert_request(0, crmf.cert_template(subject=name, public_key=spki))
    proof = crmf.signature_proof(
        KeyAlgorithm.ECDSA_P256.signature_identifier, key.sign(wanted, ec.ECDSA(hashes.SHA256()))
    )
    answer = await desk.client(implicit=True).ask(Body.IR, der.sequence(crmf.cert_req_msg(wanted, proof)))
    assert read_certificate(answer.certificate or b"").subject.der == name


@pytest.mark.parametrize(
    ("make", "certified"),
    [
        (lambda: rsa.generate_private_key(65537, 2048), True),
        (lambda: ec.generate_private_key(ec.SECP384R1()), True),
        (lambda: ec.generate_private_key(ec.SECP521R1()), True),
        (ed25519.Ed25519PrivateKey.generate, False),
        (ed448.Ed448PrivateKey.generate, False),
        (mldsa.MLDSA65PrivateKey.generate, False),
    ],
    ids=["rsa-2048", "p-384", "p-521", "ed25519", "ed448", "ml-dsa-65"],
)
async def test_keys_of_every_class_reach_the_decision_of_the_profile(
    new_desk: NewDesk, make: MakeKey, certified: bool
) -> None:
    desk = await new_desk()
    key = make()
    answer = await desk.client(implicit=True).request(key=key)
    # The profiles of CMP take RSA and the NIST curves; the others pass everything that CMP checks of them.
    if certified:
        assert answer.issued.public_key() == key.public_key()
    else:
        assert (answer.status, answer.failures) == (Status.REJECTION, {"badCertTemplate"})
        assert answer.texts[0].startswith("Profile")


@pytest.mark.parametrize(
    "mac",
    [
        password_based_mac(),
        password_based_mac(iterations=5_000, digest="sha512", mac="sha512"),
        password_based_mac(mac="sha1"),
        pbmac1(),
        pbmac1(iterations=2_048, digest="sha512", mac="sha384"),
    ],
    ids=["pbm", "pbm-sha512-costly", "pbm-hmac-sha1", "pbmac1", "pbmac1-sha512"],
)
async def test_answers_have_the_protection_of_the_question(new_desk: NewDesk, mac: Any) -> None:
    desk = await new_desk()
    answer = await desk.client(mac=mac, implicit=True).request()
    assert answer.certificate is not None
    assert answer.message.header.protection_algorithm == mac.identifier


async def test_a_certificate_of_the_ca_asks_for_another_one(new_desk: NewDesk) -> None:
    desk = await new_desk()
    key = ec.generate_private_key(ec.SECP256R1())
    first = await desk.client().enrol(key=key)
    holder = desk.client(certificate=first, key=key)
    answer = await holder.request(Body.CR, subject="CN=device-1")
    assert (answer.body, answer.status) == (Body.CP, Status.ACCEPTED)
    assert (await holder.confirm(answer)).body is Body.PKICONF


async def test_answers_are_signed_by_a_certificate_of_the_ca(new_desk: NewDesk) -> None:
    desk = await new_desk()
    key = ec.generate_private_key(ec.SECP256R1())
    first = await desk.client().enrol(key=key)
    answer = await desk.client(certificate=first, key=key, implicit=True).request(Body.CR)
    signer = read_certificate(answer.message.certificates[0])
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    assert signer.verify_signed_by(ca.certificate.spki)
    assert signer.eku == ("1.3.6.1.5.5.7.3.28", "1.3.6.1.5.5.7.3.32")
    assert signer.key_usage == {"digitalSignature"}
    assert answer.message.header.sender_kid == signer.ski
    assert answer.message.header.sender == der.explicit(4, signer.subject.der)


async def test_a_name_is_that_of_the_certificate_unless_the_endpoint_leaves_it_to_the_request(
    new_desk: NewDesk,
) -> None:
    desk = await new_desk()
    key = ec.generate_private_key(ec.SECP256R1())
    first = await desk.client().enrol(key=key, subject="CN=device-1", dns=["device-1.example"])
    answer = await desk.client(certificate=first, key=key, implicit=True).request(Body.CR, subject="CN=admin")
    assert answer.status == Status.GRANTED_WITH_MODIFICATIONS
    assert name_of(answer.issued) == "CN=device-1"
    names = answer.issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["device-1.example"]


async def test_a_device_with_a_vendor_certificate_is_named_as_it_asks_where_that_is_left_to_it(
    new_desk: NewDesk,
) -> None:
    vendor = ForeignCa("Vendor")
    certificate, key = vendor.end_entity("sn-4711")
    desk = await new_desk(options={"trusted": [vendor.pem], "names": "request"})
    answer = await desk.client(certificate=certificate, key=key, implicit=True).request(subject="CN=gnb-1,O=Operator")
    assert answer.status == Status.ACCEPTED
    assert name_of(answer.issued) == "CN=gnb-1,O=Operator"


async def test_an_update_has_the_names_of_the_certificate_it_updates_and_follows_it(new_desk: NewDesk) -> None:
    desk = await new_desk()
    key = ec.generate_private_key(ec.SECP256R1())
    first = await desk.client().enrol(key=key, subject="CN=device-1", dns=["device-1.example"])
    holder = desk.client(certificate=first, key=key)
    old = crmf.cert_id(first.issuer.public_bytes(), first.serial_number)
    answer = await holder.request(Body.KUR, subject="CN=device-1", controls=[(crmf.OLD_CERTIFICATE_ID, old)])
    assert answer.body is Body.KUP
    assert name_of(answer.issued) == "CN=device-1"
    await holder.confirm(answer)
    previous = await pipeline.presented(
        desk.enrollment, desk.endpoint, first.public_bytes(serialization.Encoding.DER)
    )
    updated = await pipeline.presented(desk.enrollment, desk.endpoint, answer.certificate or b"")
    assert previous is not None
    assert updated is not None
    assert updated.previous_id == previous.id
    assert previous.status == "valid"


async def test_the_old_certificate_is_revoked_only_once_the_update_is_confirmed(new_desk: NewDesk) -> None:
    desk = await new_desk(options={"revoke_renewed": True})
    key = ec.generate_private_key(ec.SECP256R1())
    first = await desk.client().enrol(key=key)
    der_first = first.public_bytes(serialization.Encoding.DER)
    holder = desk.client(certificate=first, key=key)
    answer = await holder.request(Body.KUR)
    before = await pipeline.presented(desk.enrollment, desk.endpoint, der_first)
    await holder.confirm(answer)
    after = await pipeline.presented(desk.enrollment, desk.endpoint, der_first)
    assert before is not None
    assert after is not None
    assert (before.status, after.status) == ("valid", "revoked")


async def test_an_update_that_revokes_has_to_be_confirmed_whatever_the_client_wants(new_desk: NewDesk) -> None:
    desk = await new_desk(options={"revoke_renewed": True})
    key = ec.generate_private_key(ec.SECP256R1())
    holder = desk.client(certificate=await desk.client().enrol(key=key), key=key, implicit=True)
    answer = await holder.request(Body.KUR)
    assert answer.message.header.info("1.3.6.1.5.5.7.4.13") is None
    assert (await holder.confirm(answer)).body is Body.PKICONF


async def test_an_update_of_somebody_elses_certificate_is_refused(new_desk: NewDesk) -> None:
    desk = await new_desk()
    victim = await desk.client().enrol(subject="CN=victim")
    key = ec.generate_private_key(ec.SECP256R1())
    mine = await desk.client().enrol(key=key)
    old = crmf.cert_id(victim.issuer.public_bytes(), victim.serial_number)
    answer = await desk.client(certificate=mine, key=key).request(
        Body.KUR, controls=[(crmf.OLD_CERTIFICATE_ID, old)]
    )
    assert answer.failures == {"notAuthorized"}


async def test_a_certificate_is_updated_at_the_endpoint_of_its_profile(new_desk: NewDesk) -> None:
    desk, other = await new_desk(), await new_desk(profile="cmp-non-repudiation")
    key = ec.generate_private_key(ec.SECP256R1())
    first = await desk.client().enrol(key=key)
    answer = await other.client(certificate=first, key=key).request(Body.KUR)
    assert answer.failures == {"badCertTemplate"}


async def test_a_pkcs10_request_has_no_number(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client()
    answer = await client.ask(Body.P10CR, request("CN=device-1"))
    assert (answer.body, answer.request_id) == (Body.CP, -1)
    assert (await client.confirm(answer)).body is Body.PKICONF


async def test_a_secret_gives_only_the_names_that_it_is_bound_to(new_desk: NewDesk) -> None:
    desk = await new_desk(credential={"bound": {"subject": "CN=device-1", "sans": [["dns", "device-1.example"]]}})
    client = desk.client(implicit=True)
    refused = await client.request(subject="CN=device-2")
    assert refused.status == Status.REJECTION
    refused = await client.begin().request(subject="CN=device-1", dns=["other.example"])
    assert refused.status == Status.REJECTION
    given = await client.begin().request(subject="", dns=["device-1.example"])
    assert name_of(given.issued) == "CN=device-1"


async def test_a_secret_for_one_use_gives_one_certificate_which_can_be_confirmed(new_desk: NewDesk) -> None:
    desk = await new_desk(credential={"uses": 1})
    client = desk.client()
    answer = await client.request()
    assert (await client.confirm(answer)).body is Body.PKICONF
    again = await client.begin().request()
    assert again.failures == {"badMessageCheck"}


async def test_a_shorter_life_can_be_asked_for(new_desk: NewDesk) -> None:
    desk = await new_desk()
    until = clock.now().replace(microsecond=0) + timedelta(days=30)
    answer = await desk.client(implicit=True).request(validity=(None, until))
    assert answer.issued.not_valid_after_utc == until
    longer = await desk.client(implicit=True).request(validity=(None, until + timedelta(days=40_000)))
    assert longer.issued.not_valid_after_utc < until + timedelta(days=400)


# ---- registration authorities ----------------------------------------------------------------------------------------


async def registration_authority(new_desk: NewDesk) -> tuple[Any, CmpClient]:
    """A desk, and a registration authority that is known there."""
    vendor = ForeignCa("RA operator")
    certificate, key = vendor.end_entity("ra-1")
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    desk = await new_desk(options={"trusted": [vendor.pem], "registration_authorities": [fingerprint]})
    return desk, desk.client(certificate=certificate, key=key, implicit=True)


async def test_a_registration_authority_vouches_for_the_possession_and_the_name(new_desk: NewDesk) -> None:
    _, authority = await registration_authority(new_desk)
    answer = await authority.request(subject="CN=device-9", proof=crmf.ra_verified())
    assert name_of(answer.issued) == "CN=device-9"


async def test_a_registration_authority_passes_on_what_a_device_protects(new_desk: NewDesk) -> None:
    desk, authority = await registration_authority(new_desk)
    device = desk.client(implicit=True)
    content, _ = certificate_request(subject="CN=device-9")
    inner = device.message(Body.IR, content)
    authority.transaction_id = device.transaction_id
    outer = authority.message(Body.NESTED, der.sequence(inner))
    answer = cmp.read_message(await desk.send(outer))
    check_protection(answer, device.secret[1] if device.secret else None)
    assert name_of(taken_apart(answer).issued) == "CN=device-9"


async def test_a_registration_authority_passes_on_several_messages_at_once(new_desk: NewDesk) -> None:
    desk, authority = await registration_authority(new_desk)
    inner = []
    for number in range(3):
        content, _ = certificate_request(subject=f"CN=device-{number}")
        inner.append(desk.client(implicit=True).message(Body.IR, content))
    answer = await authority.ask(Body.NESTED, der.sequence(*inner))
    assert answer.body is Body.NESTED
    found = [taken_apart(cmp.read_message(each)) for each in cmp.read_nested(answer.message.content)]
    assert [name_of(each.issued) for each in found] == ["CN=device-0", "CN=device-1", "CN=device-2"]


async def test_nobody_else_passes_on_messages(new_desk: NewDesk) -> None:
    desk = await new_desk()
    content, _ = certificate_request()
    inner = desk.client().message(Body.IR, content)
    answer = await desk.client().ask(Body.NESTED, der.sequence(inner))
    assert answer.failures == {"notAuthorized"}


async def test_the_profile_that_a_client_expects_is_compared(new_desk: NewDesk) -> None:
    desk = await new_desk()
    client = desk.client(implicit=True)

    def expecting(profile: str) -> tuple[InfoTypeAndValue, ...]:
        return (InfoTypeAndValue(CERT_PROFILE, der.sequence(der.utf8_string(profile))),)

    content, _ = certificate_request()
    assert (await client.ask(Body.IR, content, information=expecting("cmp-digital-signature"))).certificate is not None
    refused = await client.begin().ask(Body.IR, content, information=expecting("another"))
    assert refused.failures == {"badRequest"}
