"""Signatures with a chosen digest or padding, checked by OpenSSL's own verification through certificates."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm, generate_private_key
from intaglio.asn1.signature_schemes import Digest, signature_scheme
from intaglio.core.errors import InvalidInput

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512(),
}  # fmt: skip


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_without_a_wish_a_key_signs_as_it_always_does(algorithm: KeyAlgorithm) -> None:
    scheme, key = signature_scheme(algorithm), generate_private_key(algorithm)
    assert scheme.identifier == algorithm.signature_identifier
    assert algorithms.verify(key.public_key(), algorithm.signature_oid, scheme.bind(key)(b"data"), b"data")


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_a_digest_can_be_chosen_for_elliptic_curve_and_rsa_keys(digest: Digest) -> None:
    chosen = _HASHES[digest]
    curve = ec.generate_private_key(ec.SECP256R1())
    signature = signature_scheme(KeyAlgorithm.ECDSA_P256, digest).bind(curve)(b"data")
    curve.public_key().verify(signature, b"data", ec.ECDSA(chosen))
    modular = rsa.generate_private_key(65537, 2048)
    signature = signature_scheme(KeyAlgorithm.RSA_2048, digest).bind(modular)(b"data")
    modular.public_key().verify(signature, b"data", padding.PKCS1v15(), chosen)
    salted = signature_scheme(KeyAlgorithm.RSA_2048, digest, pss=True)
    modular.public_key().verify(
        salted.bind(modular)(b"data"), b"data", padding.PSS(padding.MGF1(chosen), chosen.digest_size), chosen
    )
    assert der.oid("1.2.840.113549.1.1.10") in salted.identifier


@pytest.mark.parametrize(("algorithm", "pss"), [(KeyAlgorithm.ED25519, False), (KeyAlgorithm.ECDSA_P256, True)])
def test_what_a_key_cannot_do_is_refused(algorithm: KeyAlgorithm, pss: bool) -> None:
    with pytest.raises(InvalidInput, match="key of type"):
        signature_scheme(algorithm, "sha384", pss=pss)
