"""Keys of clients and CAs: possession shown by decryption, keys made here, CAs that sign with any kind of key."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from sqlalchemy import select
from tests.enrollment.cmp.conftest import Desk, NewDesk
from tests.support.authority import OPERATOR, issuing_wish
from tests.support.cmp_client import CmpClient, certificate_request

from intaglio.asn1 import cmp, crmf, der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.asn1.cmp import Body
from intaglio.asn1.signature_schemes import signature_scheme
from intaglio.authority import models
from intaglio.authority.cas.create import create_issuing
from intaglio.authority.certificates import RevocationReason
from intaglio.enrollment import pipeline
from intaglio.enrollment.cmp import signers
from intaglio.enrollment.cmp.context import Cmp
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.values import Applicant
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.cms.enveloped import read_enveloped
from intaglio.x509.cms.identifiers import ENVELOPED_DATA, SIGNED_DATA, content_info
from intaglio.x509.cms.signed import read_signed_data


async def newest(desk: Desk) -> CertificateInfo:
    """What was issued last."""
    c = models.certificate.c
    async with desk.enrollment.database.read() as view:
        return read_certificate(await view.scalar(select(c.der).order_by(c.id.desc()).limit(1)))


async def test_a_version_3_client_decrypts_its_certificate_from_enveloped_data(new_desk: NewDesk) -> None:
    desk = await new_desk(profile="cmp-key-encipherment")
    key = rsa.generate_private_key(65537, 2048)
    client = desk.client(version=3, implicit=True)
    answer = await client.request(key=key, proof=crmf.encrypted_certificate_proof())
    assert answer.certificate is None
    assert answer.encrypted is not None
    enveloped = content_info(ENVELOPED_DATA, der.tlv(der.SEQUENCE, der.read_tlv(answer.encrypted, 0xA0).content))
    answer.certificate = read_enveloped(enveloped).decrypt(key, await newest(desk))
    assert answer.issued.public_key() == key.public_key()
    # That the client has the certificate is the proof, so it has to say so even where confirmation is not needed.
    assert (await client.confirm(answer)).body is Body.PKICONF


async def test_a_version_2_client_decrypts_its_certificate_from_an_encrypted_value(new_desk: NewDesk) -> None:
    desk = await new_desk(profile="cmp-key-encipherment")
    key = rsa.generate_private_key(65537, 2048)
    client = desk.client()
    answer = await client.request(key=key, proof=crmf.encrypted_certificate_proof())
    fields = der.Reader(answer.encrypted or b"").enter()
    symmetric, wrapped = der.Reader(fields.read(0xA1).content), fields.read(0x82).content[1:]
    fields.read(0xA3)
    symmetric.read(der.OBJECT_IDENTIFIER)
    vector = symmetric.read(der.OCTET_STRING).content
    content_key = key.decrypt(wrapped, padding.PKCS1v15())
    decryptor = Cipher(AES(content_key), CBC(vector)).decryptor()
    plain = decryptor.update(fields.read(der.BIT_STRING).content[1:]) + decryptor.finalize()
    answer.certificate = plain[: -plain[-1]]
    assert (await client.confirm(answer)).body is Body.PKICONF


async def test_a_certificate_whose_delivery_proves_nothing_is_revoked(new_desk: NewDesk) -> None:
    desk = await new_desk(profile="cmp-key-encipherment")
    client = desk.client(version=3)
    key = rsa.generate_private_key(65537, 2048)
    answer = await client.request(key=key, proof=crmf.encrypted_certificate_proof())
    answer.certificate = b"I could not decrypt it"
    assert (await client.confirm(answer)).failures == {"badCertId"}


async def test_a_key_is_made_for_a_client_and_sent_to_it_alone(new_desk: NewDesk) -> None:
    desk = await new_desk(options={"central_keys": True})
    key = ec.generate_private_key(ec.SECP256R1())
    first = await desk.client().enrol(key=key)
    answer = await desk.client(certificate=first, key=key, version=3).request(Body.CR, central=True)
    mine = first.public_bytes(serialization.Encoding.DER)
    package = der.read_tlv(answer.private_key or b"", 0xA0).content
    enveloped = content_info(ENVELOPED_DATA, der.tlv(der.SEQUENCE, package))
    signed = read_signed_data(content_info(SIGNED_DATA, read_enveloped(enveloped).decrypt(key, read_certificate(mine))))
    signer = read_certificate(answer.message.certificates[0])
    assert signed.content is not None
    assert signed.certificates
    signed.verify(signer)
    made = serialization.load_der_private_key(der.Reader(signed.content).enter().read(der.SEQUENCE).der, None)
    assert made.public_key() == answer.issued.public_key()


@pytest.mark.parametrize("options", [{}, {"central_keys": True}], ids=["switched-off", "by-secret"])
async def test_a_request_without_a_key_is_refused_where_none_can_be_sent(
    new_desk: NewDesk, options: dict[str, Any]
) -> None:
    desk = await new_desk(options=options)
    answer = await desk.client(version=3).request(central=True)
    assert answer.failures == ({"badRequest"} if options else {"badCertTemplate"})


async def test_a_message_signed_with_rsassa_pss_is_understood(new_desk: NewDesk) -> None:
    desk = await new_desk()
    key = rsa.generate_private_key(65537, 2048)
    first = await desk.client().enrol(key=key)
    scheme = signature_scheme(KeyAlgorithm.RSA_2048, "sha384", pss=True)
    client = desk.client(certificate=first, key=key, implicit=True)
    header = client.header(protection_algorithm=scheme.identifier)
    content, _ = certificate_request()
    header_der, body = cmp.header(header), cmp.body(Body.CR, content)
    signature = scheme.bind(key)(cmp.protected_part(header_der, body))
    along = [first.public_bytes(serialization.Encoding.DER)]
    answer = await client.post(cmp.message(header_der, body, signature, along))
    assert answer.certificate is not None


# ---- CAs of other kinds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ca_key", "signer_key", "confirms_with"),
    [
        (KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_2048, "sha256"),
        (KeyAlgorithm.ECDSA_P384, KeyAlgorithm.ECDSA_P384, "sha384"),
        (KeyAlgorithm.ED25519, KeyAlgorithm.ED25519, "sha512"),
        (KeyAlgorithm.ML_DSA_65, KeyAlgorithm.ML_DSA_65, "sha512"),
    ],
    ids=lambda value: str(value),
)
async def test_a_ca_of_any_kind_answers_in_its_own_kind(
    enrollment: Enrollment, new_desk: NewDesk, ca_key: KeyAlgorithm, signer_key: KeyAlgorithm, confirms_with: str
) -> None:
    wish = issuing_wish("other", key_algorithm=ca_key, profiles=["cmp-digital-signature"])
    await create_issuing(enrollment.authority, OPERATOR, "demo", wish)
    desk = await new_desk(ca="demo~other", name="other")
    key = ec.generate_private_key(ec.SECP256R1())
    client = desk.client()
    answer = await client.request(key=key)
    digest = hashlib.new(confirms_with, answer.certificate or b"").digest()
    assert (await client.confirm(answer, cert_hash=digest)).body is Body.PKICONF
    certificate = x509.load_der_x509_certificate(answer.certificate or b"")
    signed = await desk.client(certificate=certificate, key=key, implicit=True).request(Body.CR)
    assert read_certificate(signed.message.certificates[0]).key_algorithm is signer_key


async def test_a_signer_that_was_revoked_is_replaced(new_desk: NewDesk) -> None:
    desk = await new_desk()
    refused = CmpClient(desk.send)
    first = (await refused.request()).message.certificates[0]
    serial = read_certificate(first).serial
    reason = RevocationReason.KEY_COMPROMISE
    await pipeline.revoke(desk.enrollment, desk.endpoint, Applicant("admin", "none", ""), serial, reason)
    desk.cmp = Cmp(desk.enrollment)
    second = (await refused.request()).message.certificates[0]
    assert read_certificate(second).serial != serial


async def test_two_processes_make_one_signer(new_desk: NewDesk) -> None:
    desk = await new_desk()
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    found = await asyncio.gather(*(signers.ensure_signer(desk.enrollment.authority, ca) for _ in range(4)))
    assert len({each.id for each in found}) == 1
