"""Keys in a real token (SoftHSM 2): made there, never leaving it, and good for everything that signs."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from pkcs11 import Attribute, ObjectClass
from pkcs11.exceptions import TemplateInconsistent
from tests.support.tokens import SoftHsm

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.asn1.signature_schemes import signature_scheme
from intaglio.core import clock
from intaglio.core.errors import InvalidInput, NotSupported, Unavailable
from intaglio.core.identifiers import new_id
from intaglio.keystore.pkcs11 import importing, mechanisms
from intaglio.keystore.pkcs11.mechanisms import KINDS
from intaglio.keystore.pkcs11.provider import Pkcs11Provider
from intaglio.keystore.providers import StoredKey

FAST = [algorithm for algorithm in KINDS if algorithm not in (KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096)]


@pytest.fixture
def hsm(tmp_path: Path) -> SoftHsm:
    made = SoftHsm(tmp_path)
    made.make("one")
    return made


@pytest.fixture
def provider(hsm: SoftHsm) -> Pkcs11Provider:
    return Pkcs11Provider(hsm.settings("one"))


@pytest.mark.parametrize("algorithm", FAST)
def test_a_key_of_every_kind_is_made_in_the_token_and_never_leaves_it(
    hsm: SoftHsm, provider: Pkcs11Provider, algorithm: KeyAlgorithm
) -> None:
    key_id = new_id()
    made = provider.generate(key_id, algorithm, "a test")
    assert made.protection == {
        "sensitive": True, "always_sensitive": True, "extractable": False, "never_extractable": True, "local": True,
    }  # fmt: skip
    seen = hsm.pkcs11_tool("one", "--list-objects", "--type", "privkey")
    assert key_id.hex in seen
    assert "sensitive, always sensitive, never extractable, local" in seen
    signature = algorithms.sign(made.private_key, b"to be signed")
    public = made.private_key.public_key()
    assert algorithms.verify(public, algorithm.signature_oid, signature, b"to be signed")
    with pytest.raises(NotSupported):
        made.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("pss", [False, True])
def test_rsa_keys_sign_with_every_digest_and_padding(provider: Pkcs11Provider, digest: str, pss: bool) -> None:
    key = provider.generate(new_id(), KeyAlgorithm.RSA_2048, "a test").private_key
    scheme = signature_scheme(KeyAlgorithm.RSA_2048, digest, pss=pss)  # type: ignore[arg-type]
    signature = scheme.bind(key)(b"to be signed")
    named = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[digest]
    padded = padding.PSS(padding.MGF1(named), named.digest_size) if pss else padding.PKCS1v15()
    public = key.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(signature, b"to be signed", padded, named)


def test_a_digest_made_elsewhere_is_signed(provider: Pkcs11Provider) -> None:
    key = provider.generate(new_id(), KeyAlgorithm.ECDSA_P384, "a test").private_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    scheme = ec.ECDSA(Prehashed(hashes.SHA384()))
    key.public_key().verify(key.sign(b"\x07" * 48, scheme), b"\x07" * 48, scheme)
    with pytest.raises(ValueError, match="not a digest"):
        key.sign(b"too short", scheme)


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ECDSA_P256, KeyAlgorithm.RSA_2048, KeyAlgorithm.ED25519])
def test_the_builders_of_the_library_sign_with_keys_in_tokens(
    provider: Pkcs11Provider, algorithm: KeyAlgorithm
) -> None:
    key = provider.generate(new_id(), algorithm, "a test").private_key
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "in a token")])
    now = clock.now()
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(7)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).public_key(key.public_key())
    certificate = builder.sign(key, None if algorithm is KeyAlgorithm.ED25519 else hashes.SHA256())
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize("algorithm", FAST)
def test_an_imported_key_signs_the_same_and_says_that_it_was_outside(
    provider: Pkcs11Provider, algorithm: KeyAlgorithm
) -> None:
    key, key_id = algorithms.generate_private_key(algorithm), new_id()
    spki = algorithms.spki(key.public_key())
    held = provider.import_key(StoredKey(key_id, "", algorithm, "moved", spki, None, key_id.bytes), key)
    assert held.protection is not None
    assert (held.protection["extractable"], held.protection["sensitive"]) == (False, True)
    assert (held.protection["never_extractable"], held.protection["local"]) == (False, False)
    signature = algorithms.sign(held.private_key, b"to be signed")
    assert algorithms.verify(key.public_key(), algorithm.signature_oid, signature, b"to be signed")


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ECDSA_P384, KeyAlgorithm.RSA_2048])
def test_a_token_that_takes_no_open_key_is_given_it_wrapped(
    provider: Pkcs11Provider, algorithm: KeyAlgorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TemplateInconsistent("no open private keys here")

    monkeypatch.setattr(importing, "_create", refuse)
    key, key_id = algorithms.generate_private_key(algorithm), new_id()
    spki = algorithms.spki(key.public_key())
    held = provider.import_key(StoredKey(key_id, "", algorithm, "wrapped", spki, None, key_id.bytes), key)
    assert held.protection is not None
    assert (held.protection["extractable"], held.protection["sensitive"]) == (False, True)
    signature = algorithms.sign(held.private_key, b"to be signed")
    assert algorithms.verify(key.public_key(), algorithm.signature_oid, signature, b"to be signed")
    assert {each.kind for each in provider.everything()} == {"private key", "public key"}


def test_a_key_leaves_a_token_only_if_the_token_lets_it(provider: Pkcs11Provider) -> None:
    key_id = new_id()
    provider.generate(key_id, KeyAlgorithm.ECDSA_P256, "kept")
    stored = StoredKey(key_id, "", KeyAlgorithm.ECDSA_P256, "kept", b"", None, key_id.bytes)
    with pytest.raises(NotSupported, match="does not let"):
        provider.export_key(stored)
    for algorithm in FAST:
        key, reference = algorithms.generate_private_key(algorithm), algorithm.value.encode()
        attributes = {
            Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: reference, Attribute.TOKEN: True,
            Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True, **importing.components(key)[0],
        }  # fmt: skip
        provider.token.run(lambda seat, a=attributes: seat.session.create_object(a), write=True)  # type: ignore[misc]
        let_out = provider.export_key(StoredKey(new_id(), "", algorithm, "", b"", None, reference))
        assert algorithms.spki(let_out.public_key()) == algorithms.spki(key.public_key())


def test_another_key_under_the_same_id_is_found_out(provider: Pkcs11Provider) -> None:
    made, other = new_id(), algorithms.generate_private_key(KeyAlgorithm.ECDSA_P256)
    provider.generate(made, KeyAlgorithm.ECDSA_P256, "a test")
    spki = algorithms.spki(other.public_key())
    claimed = provider.load(StoredKey(made, "", KeyAlgorithm.ECDSA_P256, "", spki, None, made.bytes))
    with pytest.raises(Unavailable) as refused:
        algorithms.sign(claimed, b"to be signed")
    assert refused.value.code == "token-answer-wrong"


def test_a_destroyed_key_leaves_nothing_in_the_token(hsm: SoftHsm, provider: Pkcs11Provider) -> None:
    key_id = new_id()
    key = provider.generate(key_id, KeyAlgorithm.ECDSA_P256, "a test").private_key
    provider.destroy(StoredKey(key_id, "", KeyAlgorithm.ECDSA_P256, "", b"", None, key_id.bytes))
    assert key_id.hex not in hsm.pkcs11_tool("one", "--list-objects")
    with pytest.raises(Unavailable) as refused:
        algorithms.sign(key, b"to be signed")
    assert refused.value.code == "token-key-missing"


def test_objects_are_listed_as_another_program_lists_them(hsm: SoftHsm, provider: Pkcs11Provider) -> None:
    key_id = new_id()
    provider.generate(key_id, KeyAlgorithm.RSA_2048, "listed")
    listed = {each.kind: each for each in provider.everything()}
    assert {each.id for each in listed.values()} == {key_id.hex}
    private = listed["private key"]
    assert (private.type, private.bits, private.label, private.usage) == ("rsa-2048", 2048, "listed", ("sign",))
    assert (listed["public key"].bits, listed["public key"].usage) == (2048, ("verify",))
    seen = hsm.pkcs11_tool("one", "--list-objects")
    assert seen.count("RSA") >= 2
    assert seen.count("label:      listed") == 2


def test_a_kind_of_key_that_tokens_lack_is_refused(provider: Pkcs11Provider) -> None:
    with pytest.raises(NotSupported) as refused:
        provider.generate(new_id(), KeyAlgorithm.ML_DSA_65, "a test")
    assert refused.value.code == "key-algorithm-not-in-tokens"


@given(st.sampled_from([256, 384, 521]), st.data())
def test_an_ecdsa_signature_survives_both_ways_of_writing_it(bits: int, data: st.DataObject) -> None:
    size = (bits + 7) // 8
    r, s = (data.draw(st.integers(1, (1 << bits) - 1)) for _ in range(2))
    raw = r.to_bytes(size) + s.to_bytes(size)
    assert mechanisms.ecdsa_from_der(mechanisms.ecdsa_to_der(raw, bits), bits) == raw


@given(st.binary(max_size=200), st.sampled_from([256, 384, 521]))
def test_whatever_a_token_answers_is_a_signature_or_a_refusal(raw: bytes, bits: int) -> None:
    with contextlib.suppress(Unavailable):
        mechanisms.ecdsa_to_der(raw, bits)
    with contextlib.suppress(InvalidInput):
        assert len(mechanisms.ecdsa_from_der(raw, bits)) == 2 * ((bits + 7) // 8)


def test_a_forked_process_signs_with_a_session_of_its_own(provider: Pkcs11Provider) -> None:
    key = provider.generate(new_id(), KeyAlgorithm.ECDSA_P256, "a test").private_key
    algorithms.sign(key, b"by the parent")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        again = Pkcs11Provider(provider.settings)
        spki = algorithms.spki(key.public_key())
        reference = key._cka_id  # type: ignore[union-attr]
        mine = again.load(StoredKey(new_id(), "", KeyAlgorithm.ECDSA_P256, "", spki, None, reference))
        os.write(writer, algorithms.sign(mine, b"by the child"))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        signature = answers.read()
    assert os.waitpid(child, 0)[1] == 0
    public = key.public_key()
    assert algorithms.verify(public, KeyAlgorithm.ECDSA_P256.signature_oid, signature, b"by the child")
    assert algorithms.sign(key, b"by the parent again")
