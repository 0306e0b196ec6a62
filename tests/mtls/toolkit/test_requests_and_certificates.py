"""Requests and self-signed certificates."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.mtls.toolkit.conftest import NOW, Identity

from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key
from intaglio.core.errors import InvalidInput
from intaglio.mtls.toolkit import strength
from intaglio.mtls.toolkit.certificates import CLIENT_AUTH, self_signed
from intaglio.mtls.toolkit.requests import make_request, subject_of
from intaglio.mtls.toolkit.signatures import Digest
from intaglio.x509.certificates import read_certificate
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import EMPTY_NAME, Name
from intaglio.x509.requests import parse_request


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ECDSA_P384, KeyAlgorithm.ED25519, KeyAlgorithm.ML_DSA_44])
@pytest.mark.parametrize("digest", Digest)
def test_a_request_proves_possession_and_asks_for_its_names(algorithm: KeyAlgorithm, digest: Digest) -> None:
    key = generate_private_key(algorithm)
    names = GeneralNames.build([("email", "alice@example.com"), ("uri", "spiffe://example/alice"), ("ip", "192.0.2.1")])
    found = parse_request(make_request(key, Name.parse("CN=alice,C=CA"), names, digest))
    assert found.subject.rfc4514 == "CN=alice,C=CA"
    assert found.san is not None
    assert found.san.text == names.text


def test_the_answers_to_the_questions_become_the_subject_in_the_usual_order() -> None:
    subject = subject_of({"CN": "alice", "C": "CA", "O": " Example ", "L": ""})
    assert subject.rfc4514 == "CN=alice,O=Example,C=CA"


def test_a_request_without_any_name_is_refused() -> None:
    with pytest.raises(InvalidInput) as refusal:
        make_request(generate_private_key(KeyAlgorithm.ED25519), EMPTY_NAME)
    assert refusal.value.code == "request-without-name"


def test_a_self_signed_certificate_is_a_complete_version_3_client_certificate(alice: Identity) -> None:
    found = read_certificate(alice.certificate)
    assert found.key_usage == {"digitalSignature"}
    assert found.eku == (CLIENT_AUTH,)
    assert not found.is_ca
    assert found.ski is not None
    assert found.san is not None
    assert found.san.text == ["rfc822Name=alice@example.com"]
    assert found.verify_signed_by(found.spki)
    assert found.not_after - NOW == timedelta(days=365)
    assert strength.signature(found.signature_oid)[0] == "SHA-256 with ECDSA"


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_an_endless_validity_is_refused(alice: Identity, days: int) -> None:
    request = parse_request(make_request(alice.key, Name.parse("CN=x")))
    with pytest.raises(InvalidInput) as refusal:
        self_signed(request, alice.key, now=NOW, days=days)
    assert refusal.value.code == "validity-out-of-range"


def test_a_foreign_key_signs_nothing(alice: Identity, rsa: Identity) -> None:
    request = parse_request(make_request(alice.key, Name.parse("CN=x")))
    with pytest.raises(InvalidInput) as refusal:
        self_signed(request, rsa.key, now=NOW)
    assert refusal.value.code == "key-mismatch"
