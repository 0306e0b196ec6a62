"""What people are told about their files and their choices."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa as pyca_rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.mtls.toolkit.conftest import NOW, Identity

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput
from intaglio.mtls.toolkit import advice, conversion, inspection, keys, passwords, sharing
from intaglio.mtls.toolkit.conversion import Format
from intaglio.mtls.toolkit.pkcs12_writer import Protection, Variant, encode_pkcs12
from intaglio.mtls.toolkit.requests import make_request
from intaglio.mtls.toolkit.signatures import Digest
from intaglio.x509.certificates import pem, read_certificates
from intaglio.x509.names import Name


def _warnings(data: bytes, **more: object) -> str:
    return " ".join(w for each in inspection.inspect(data, now=NOW, **more) for w in each.warnings)  # type: ignore[arg-type]


def test_every_kind_of_file_is_recognised_in_pem_and_der(alice: Identity) -> None:
    request = make_request(alice.key, Name.parse("CN=alice"))
    p12 = encode_pkcs12(alice.key, alice.certificate, [], "secret", protection=Protection(Variant.AES_256, 1000, 1000))
    plain = keys.encode_key(alice.key, None, form="der")
    for data, kind in (
        (alice.certificate, "certificate"),
        (request, "certificate request"),
        (p12, "PKCS #12"),
        (plain, "private key"),
        (keys.encode_key(alice.key, "secret", iterations=1000, form="der"), "private key"),
    ):
        assert [each.kind for each in inspection.inspect(data, now=NOW)] == [kind]
    bundle = pem(alice.certificate).encode() + keys.encode_key(alice.key, None)
    assert [each.kind for each in inspection.inspect(bundle, now=NOW)] == ["certificate", "private key"]
    assert json.dumps([each.as_json() for each in inspection.inspect(bundle, now=NOW)])


def test_dangers_are_named(alice: Identity) -> None:
    assert "not encrypted" in _warnings(keys.encode_key(alice.key, None))
    assert "self-signed" in _warnings(alice.certificate)
    short = pyca_rsa.generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert "1024 bits" in _warnings(short)
    few = encode_pkcs12(alice.key, alice.certificate, [], "secret", protection=Protection(Variant.AES_256, 1000, 1000))
    assert "1000 iterations" in _warnings(few)
    late = inspection.inspect(alice.certificate, now=NOW + timedelta(days=363))
    assert "72 hours" in " ".join(late[0].warnings)
    gone = inspection.inspect(alice.certificate, now=NOW + timedelta(days=366))
    assert "expired" in " ".join(gone[0].warnings)


def test_nothing_secret_is_in_what_is_told(alice: Identity) -> None:
    content = keys.encode_key(alice.key, None, form="der")
    told = json.dumps([each.as_json() for each in inspection.inspect(content, now=NOW)])
    assert content.hex()[-40:] not in told


def test_a_file_that_is_nothing_of_the_kind_is_refused() -> None:
    with pytest.raises(InvalidInput) as refusal:
        inspection.inspect(b"hello", now=NOW)
    assert refusal.value.code == "file-not-understood"


def test_containers_change_and_the_content_stays(alice: Identity, rsa: Identity) -> None:
    for original in (
        alice.certificate,
        make_request(alice.key, Name.parse("CN=alice")),
        keys.encode_key(alice.key, None, form="der"),
        keys.encode_key(rsa.key, "secret", iterations=1000, form="der"),
    ):
        assert conversion.convert(conversion.convert(original, Format.PEM), Format.DER) == original
    chain = (pem(alice.certificate) + pem(rsa.certificate)).encode()
    p7b = conversion.convert(chain, Format.P7B)
    assert {each.der for each in read_certificates(conversion.convert(p7b, Format.PEM))} == {
        alice.certificate, rsa.certificate,
    }  # fmt: skip


def test_several_objects_have_no_der(alice: Identity) -> None:
    with pytest.raises(InvalidInput) as refusal:
        conversion.convert(pem(alice.certificate).encode() * 2, Format.DER)
    assert refusal.value.code == "conversion-impossible"


def test_what_is_shared_has_the_usual_forms(alice: Identity) -> None:
    found = sharing.share(alice.certificate)
    assert len(found.sha256.split(":")) == 32
    assert found.spki_pin.startswith("sha256//")
    assert "PRIVATE" not in found.pem


def test_generated_passwords_are_strong_and_differ() -> None:
    made = {passwords.generate() for _ in range(50)}
    assert len(made) == 50
    assert all(passwords.strength(each).sufficient for each in made)


def test_guessable_passwords_are_refused() -> None:
    for weak in ("", "short", "password1234", "alice@example.com"):
        assert not passwords.strength(weak, known=("alice@example.com",)).sufficient
        with pytest.raises(InvalidInput):
            passwords.require_strong(weak, known=("alice@example.com",))


def test_the_advice_names_who_refuses_a_choice_and_what_to_take_instead() -> None:
    found = advice.advise(KeyAlgorithm.RSA_4096, Digest.SHA384, Variant.AES_256, ["legacy", "macos"])
    assert {each.system for each in found} == {"Very old appliances and mainframes", "macOS (Keychain)"}
    assert "Use rsa-2048." in [each.instead for each in found]
    digest = advice.advise(KeyAlgorithm.RSA_2048, Digest.SHA384, None, ["legacy"])
    assert [each.instead for each in digest] == ["Use sha256."]
    assert advice.safest(["legacy"]) == (KeyAlgorithm.RSA_2048, Digest.SHA256, Variant.COMPATIBLE)


def test_the_safest_choice_is_refused_by_nobody() -> None:
    key, digest, variant = advice.safest([])
    assert advice.advise(key, digest, variant) == []
