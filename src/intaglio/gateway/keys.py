"""Keys in an enrolment: from a certificate request, sent alone, or generated here; and the key-size policies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey
from intaglio.authority.options import KeySizePolicy
from intaglio.core.errors import InvalidInput, Refused
from intaglio.gateway.schemas import decode_base64
from intaglio.profiles.model import CertificateProfile
from intaglio.x509 import weak_keys


def read_public_key(encoded: str, *, target: str) -> tuple[bytes, KeyAlgorithm]:
    """SubjectPublicKeyInfo (DER) and algorithm of a base64 public key.

    Raises InvalidInput: ``request-malformed``, ``key-algorithm-not-allowed``, ``invalid-public-key``, ``weak-key``.
    """
    try:
        spki = decode_base64(encoded)
    except ValueError as error:
        raise InvalidInput(f"The public key {error}.", code="request-malformed", target=target) from None
    try:
        key, algorithm = algorithms.load_public_key(spki)
        weak_keys.check_public_key(key)
    except InvalidInput as error:
        raise InvalidInput(
            error.detail, code=error.code, remedy=error.remedy, target=target, extra={"step": "key"}
        ) from None
    return spki, algorithm


def wanted_algorithm(text: str | None, profile: CertificateProfile) -> KeyAlgorithm:
    """The algorithm of a key to generate: the one asked for, else RSA 2048, else the profile's first.

    Raises InvalidInput (``key-algorithm-not-allowed``) and Refused (``key-type-not-allowed``).
    """
    if text is None:
        usual = KeyAlgorithm.RSA_2048
        return usual if usual in profile.key_algorithms else profile.key_algorithms[0]
    target = "/optionalCertificateRequestDetails/keyAlgorithm"
    try:
        algorithm = KeyAlgorithm.parse(text)
    except InvalidInput as error:
        raise InvalidInput(
            error.detail, code="key-algorithm-not-allowed", remedy=error.remedy, target=target, extra={"step": "key"}
        ) from None
    if algorithm not in profile.key_algorithms:
        raise Refused(
            f'Profile "{profile.id}" does not take keys of type {algorithm}.',
            code="key-type-not-allowed",
            remedy=f"Use one of {', '.join(profile.key_algorithms)}.",
            target=target,
            extra={"step": "key"},
        )
    return algorithm


async def generate_key(algorithm: KeyAlgorithm, slots: asyncio.Semaphore) -> PrivateKey:
    """A fresh private key, made in a thread; ``slots`` bounds how many are made at a time."""
    async with slots:
        return await asyncio.to_thread(algorithms.generate_private_key, algorithm)


@cache
def sample_public_key(algorithm: KeyAlgorithm) -> bytes:
    """A SubjectPublicKeyInfo that stands for a key still to be generated, for dry runs only; never certified."""
    return algorithms.spki(algorithms.generate_private_key(algorithm).public_key())


def check_key_size(algorithm: KeyAlgorithm, policies: Mapping[str, KeySizePolicy]) -> list[str]:
    """Hold a key against the policies of all levels, by name of the level.

    Returns what is to be logged; raises Refused (``key-too-small``) when one level blocks.
    """
    warnings: list[str] = []
    for level, policy in policies.items():
        if policy.action == "off":
            continue
        bits, minimum = _size(algorithm, policy)
        if bits >= minimum:
            continue
        text = f"the key has {bits} bits, {level} wants at least {minimum}"
        if policy.action == "block":
            raise Refused(
                f"{text[0].upper()}{text[1:]}.",
                code="key-too-small",
                remedy="Make a larger key.",
                target="/csr",
                extra={"step": "key-size"},
            )
        warnings.append(text)
    return warnings


def _size(algorithm: KeyAlgorithm, policy: KeySizePolicy) -> tuple[int, int]:
    """(bits of the key, bits the policy wants); an ML-DSA key has no size that a policy for RSA and ECC speaks of."""
    if algorithm in _RSA_BITS:
        return _RSA_BITS[algorithm], policy.rsa
    return (_ECC_BITS[algorithm], policy.ecc) if algorithm in _ECC_BITS else (0, 0)


_RSA_BITS = {KeyAlgorithm.RSA_2048: 2048, KeyAlgorithm.RSA_3072: 3072, KeyAlgorithm.RSA_4096: 4096}
_ECC_BITS = {
    KeyAlgorithm.ECDSA_P256: 256,
    KeyAlgorithm.ECDSA_P384: 384,
    KeyAlgorithm.ECDSA_P521: 521,
    KeyAlgorithm.ED25519: 256,
    KeyAlgorithm.ED448: 456,
}
