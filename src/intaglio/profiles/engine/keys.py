"""The key step: is this kind of key good enough for the profile."""

from __future__ import annotations

from typing import Final

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.profiles.engine.refusals import refused
from intaglio.profiles.model import CertificateProfile

_RSA_BITS: Final = {KeyAlgorithm.RSA_2048: 2048, KeyAlgorithm.RSA_3072: 3072, KeyAlgorithm.RSA_4096: 4096}
_ECC_BITS: Final = {
    KeyAlgorithm.ECDSA_P256: 256,
    KeyAlgorithm.ECDSA_P384: 384,
    KeyAlgorithm.ECDSA_P521: 521,
    KeyAlgorithm.ED25519: 256,
    KeyAlgorithm.ED448: 456,
}


def check_key(profile: CertificateProfile, algorithm: KeyAlgorithm, warnings: list[str]) -> None:
    """Refuse a key type the profile does not take or a key below its minimum; note a retirement that is coming."""
    if algorithm not in profile.key_algorithms:
        raise refused(
            "key",
            "key-type-not-allowed",
            f'Profile "{profile.id}" does not take keys of type {algorithm}.',
            f"Use one of {', '.join(profile.key_algorithms)}.",
            target="csr",
        )
    if profile.minimum_keysize.action != "off":
        _check_size(profile, algorithm, warnings)
    if note := algorithm.retirement_note:
        warnings.append(f"{algorithm}: {note}")


def _check_size(profile: CertificateProfile, algorithm: KeyAlgorithm, warnings: list[str]) -> None:
    policy = profile.minimum_keysize
    if algorithm in _RSA_BITS:
        bits, minimum = _RSA_BITS[algorithm], policy.rsa
    else:
        bits, minimum = _ECC_BITS.get(algorithm, 0), policy.ecc if algorithm in _ECC_BITS else None
    if minimum is None or bits >= minimum:
        return
    text = f'the key has {bits} bits, profile "{profile.id}" wants at least {minimum}'
    if policy.action == "log":
        warnings.append(text)
        return
    raise refused("key", "key-too-small", f"{text[0].upper()}{text[1:]}.", "Make a larger key.", target="csr")
