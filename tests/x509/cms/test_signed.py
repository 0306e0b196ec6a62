"""Signed messages: what we make others verify, what others make we verify, and nothing that was changed passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import example, given
from hypothesis import strategies as st

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput, TooLarge
from intaglio.x509.cms import identifiers as ids
from intaglio.x509.cms.signed import read_signed_data, verify_signer
from intaglio.x509.cms.signing import certificates_only, sign

OpenSsl = Callable[..., str]
People = dict[str, Any]  # Person of conftest, by name

SIGNED_AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("name", ["rsa", "ec"])
def test_openssl_verifies_what_we_sign(
    people: People, openssl: OpenSsl, message: Path, tmp_path: Path, name: str
) -> None:
    person, out, back = people[name], tmp_path / "signed.der", tmp_path / "back"
    out.write_bytes(sign(message.read_bytes(), person.certificate, person.key))
    openssl("cms", "-verify", "-inform", "DER", "-in", str(out), "-noverify", "-binary", "-out", str(back))
    assert back.read_bytes() == message.read_bytes()


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("name", ["rsa", "ec"])
@pytest.mark.parametrize("options", [[], ["-noattr"], ["-keyid"], ["-stream"]])
def test_what_openssl_signs_is_verified(
    people: People, openssl: OpenSsl, message: Path, tmp_path: Path, name: str, digest: str, options: list[str]
) -> None:
    person, out = people[name], tmp_path / "signed.der"
    openssl(
        "cms", "-sign", "-in", str(message), "-binary", "-nodetach", "-md", digest, "-signer", person.certificate_file,
        "-inkey", person.key_file, "-outform", "DER", "-out", str(out), *options,
    )  # fmt: skip
    read = read_signed_data(out.read_bytes())
    assert read.content == message.read_bytes()
    assert read.signer_certificate().der == person.certificate.der
    assert read.verify(person.certificate).digest == digest


def test_ed25519_signs_with_sha_512_beside_it(people: People) -> None:
    person = people["ed25519"]
    assert read_signed_data(sign(b"content", person.certificate, person.key)).verify(person.certificate).digest == (
        "sha512"
    )


def test_signed_attributes_come_back(people: People) -> None:
    person, transaction = people["rsa"], "2.16.840.1.113733.1.9.7"
    attributes = [ids.attribute(transaction, der.printable_string("42"))]
    signed = sign(b"content", person.certificate, person.key, attributes=attributes, signing_time=SIGNED_AT)
    signer = read_signed_data(signed).verify(person.certificate)
    value = signer.value(transaction)
    assert value is not None
    assert value.content == b"42"
    assert signer.signing_time == SIGNED_AT


def test_a_signature_by_somebody_else_is_refused(people: People) -> None:
    signed = sign(b"content", people["rsa"].certificate, people["rsa"].key)
    with pytest.raises(InvalidInput) as refusal:
        read_signed_data(signed).verify(people["other"].certificate)
    assert refusal.value.code == "cms-signature-invalid"


@pytest.mark.parametrize("typed", [False, True], ids=["no-attributes", "no-content-type"])
def test_what_is_not_plain_data_has_its_type_signed(people: People, typed: bool) -> None:
    """Whoever had signed attributes signed could otherwise present them as a content of his choice."""
    person = people["ec"]
    signer = read_signed_data(sign(b"content", person.certificate, person.key)).signer
    assert signer.signed_attributes is not None
    kept = der.children(der.read_tlv(signer.signed_attributes).content)
    attributes = der.set_of(*(each.der for each in kept if der.oid(ids.CONTENT_TYPE) not in each.der))
    content = b"content" if typed else signer.signed_attributes
    signature = person.key.sign(attributes if typed else content, ec.ECDSA(hashes.SHA256()))
    digest = {oid: value for oid, value in signer.attributes.items() if oid == ids.MESSAGE_DIGEST}
    made = replace(
        signer, signature=signature, signed_attributes=attributes if typed else None, attributes=digest if typed else {}
    )
    verify_signer(made, ids.DATA, content, person.certificate.spki, ids.SHA_2)
    with pytest.raises(InvalidInput) as refusal:
        verify_signer(made, "1.3.6.1.5.5.7.12.2", content, person.certificate.spki, ids.SHA_2)
    assert refusal.value.code == "cms-signature-invalid"


@given(place=st.integers(0, 2**16), bit=st.integers(0, 7))
def test_no_changed_octet_goes_unnoticed(people: People, place: int, bit: int) -> None:
    person = people["ec"]
    signed = bytearray(sign(b"some content " * 8, person.certificate, person.key, certificates=()))
    signed[place % len(signed)] ^= 1 << bit
    try:
        read = read_signed_data(bytes(signed))
        read.verify(person.certificate)
    except InvalidInput:
        return
    # What is not under the signature: versions, the list of digests, who signed, a name of the same algorithm.
    assert read.content == b"some content " * 8


@pytest.mark.parametrize("digest", ["sha1", "md5"])
def test_old_digests_are_refused_unless_they_are_asked_for(
    people: People, openssl: OpenSsl, message: Path, tmp_path: Path, digest: str
) -> None:
    person, out = people["rsa"], tmp_path / "signed.der"
    openssl(
        "cms", "-sign", "-in", str(message), "-nodetach", "-md", digest, "-signer", person.certificate_file,
        "-inkey", person.key_file, "-outform", "DER", "-out", str(out),
    )  # fmt: skip
    read = read_signed_data(out.read_bytes())
    with pytest.raises(InvalidInput) as refusal:
        read.verify(person.certificate)
    assert refusal.value.code == "cms-algorithm-not-allowed"
    assert digest in refusal.value.detail
    if digest == "sha1":
        assert read.verify(person.certificate, digests=("sha1", "sha256")).digest == "sha1"
    else:
        with pytest.raises(InvalidInput, match="md5"):
            read.verify(person.certificate, digests=("md5",))


def test_a_bag_of_certificates_is_read_by_others(people: People) -> None:
    certificates = [people[name].certificate.der for name in ("rsa", "ec", "other")]
    bag = certificates_only(certificates)
    assert {each.subject.rfc4514_string() for each in pkcs7.load_der_pkcs7_certificates(bag)} == {
        "CN=rsa", "CN=ec", "CN=other",
    }  # fmt: skip


def test_a_bag_keeps_its_order_where_clients_look_at_it(people: People) -> None:
    certificates = [people[name].certificate.der for name in ("rsa", "ec", "other")]
    for order in (certificates, certificates[::-1]):
        assert read_signed_data(certificates_only(order, keep_order=True)).certificates == tuple(order)


def test_two_signers_are_not_one(people: People) -> None:
    builder = pkcs7.PKCS7SignatureBuilder().set_data(b"content")
    for name in ("rsa", "other"):
        builder = _signer(builder, people[name])
    read = read_signed_data(builder.sign(Encoding.DER, [pkcs7.PKCS7Options.Binary]))
    with pytest.raises(InvalidInput, match="2 signatures"):
        read.verify(people["rsa"].certificate)


def test_messages_beyond_the_limit_are_not_looked_at() -> None:
    with pytest.raises(TooLarge) as refusal:
        read_signed_data(bytes(101), max_octets=100)
    assert refusal.value.code == "cms-too-large"


@given(st.binary(max_size=300))
@example(b"\x30\x80" * 100)
@example(b"\x24\x80" * 40 + b"\x00\x00" * 40)
@example(b"\x30\x88" + b"\xff" * 8)
def test_any_octets_are_read_or_refused(data: bytes) -> None:
    _read_or_refuse(data)


@given(place=st.integers(0, 2**16), lost=st.integers(0, 8), new=st.binary(max_size=8))
def test_any_damage_is_read_or_refused(people: People, place: int, lost: int, new: bytes) -> None:
    person = people["ec"]
    whole = sign(b"content", person.certificate, person.key, signing_time=SIGNED_AT)
    start = place % len(whole)
    _read_or_refuse(whole[:start] + new + whole[start + lost :])


def _read_or_refuse(data: bytes) -> None:
    code = None
    try:
        read = read_signed_data(data)
        read.verify(read.signer_certificate())
    except InvalidInput as error:
        code = error.code
    assert code is None or code.startswith(("cms-", "certificate-"))


def _signer(builder: pkcs7.PKCS7SignatureBuilder, person: Any) -> pkcs7.PKCS7SignatureBuilder:
    certificate = x509.load_der_x509_certificate(person.certificate.der)
    return builder.add_signer(certificate, person.key, hashes.SHA256())
