"""Checks of CA certificates that come from outside, and of what a chain still allows. Source: RFC 5280 section 6.1."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography import x509 as pyca
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from intaglio.asn1 import algorithms
from intaglio.core.errors import InvalidInput, Refused
from intaglio.x509 import weak_keys
from intaglio.x509.certificates import CertificateInfo


def path_length_budget(chain: Sequence[CertificateInfo]) -> int | None:
    """How many further CA certificates may follow below ``chain[0]``, None for any number.

    ``chain`` starts with the CA in question and ends with its root. 0 means end-entity certificates only. Self-issued
    certificates do not count against a constraint.
    """
    budget: int | None = None
    for info in reversed(chain):
        if budget is not None and not info.is_self_issued:
            budget -= 1
        if info.path_len is not None:
            budget = info.path_len if budget is None else min(budget, info.path_len)
    return None if budget is None else max(budget, 0)


def verify_ca_certificate(
    candidate: CertificateInfo, issuer: CertificateInfo, expected_spki: bytes, now: datetime
) -> None:
    """Check a certificate that an outside CA made for one of ours.

    Raises Refused with the code of the first rule that is broken: ``ca-certificate-wrong-key``,
    ``ca-certificate-wrong-issuer``, ``ca-certificate-bad-signature``, ``ca-certificate-not-a-ca``,
    ``ca-certificate-no-cert-sign``, ``ca-certificate-no-subject``, ``ca-certificate-not-valid-now``,
    ``ca-certificate-outlives-issuer``, ``ca-certificate-path-length``.
    """
    if candidate.spki != expected_spki:
        raise _refused("wrong-key", "The certificate is for another key.", "Have the downloaded request signed.")
    if candidate.issuer.key != issuer.subject.key or (candidate.aki and issuer.ski and candidate.aki != issuer.ski):
        raise _refused(
            "wrong-issuer",
            f'The certificate was issued by "{candidate.issuer}", not by "{issuer.subject}" with the expected key.',
            "Have the request signed by the root this CA was created under.",
        )
    if not candidate.verify_signed_by(issuer.spki):
        raise _refused(
            "bad-signature",
            "The signature of the certificate is not valid under the issuer's key.",
            "Have the request signed by the recorded root, with SHA-256 or better.",
        )
    _require_ca(candidate)
    if candidate.subject.is_empty:
        raise _refused("no-subject", "The certificate has no subject.", "A CA needs a distinguished name.")
    _require_valid(candidate, now)
    if candidate.not_after > issuer.not_after:
        raise _refused("outlives-issuer", "The certificate is valid for longer than its issuer.")
    if issuer.path_len == 0 and not candidate.is_self_issued:
        raise _refused("path-length", "The issuer's path length constraint allows no CA below it.")


def check_root_certificate(info: CertificateInfo, now: datetime) -> None:
    """Check a root certificate that is to be trusted.

    A trust anchor is trusted because somebody chose it; path validation uses its name and key and does not look at its
    own signature (RFC 5280 section 6.1). That is verified here all the same, whatever its algorithm, because it shows
    that the file is whole; :func:`root_warnings` tells of one that nobody should trust elsewhere. RSA keys need 2048
    bits and any odd public exponent from 3 on.

    Raises InvalidInput: ``root-not-self-signed``, ``root-signature-unsupported``, ``root-not-a-ca``,
    ``root-no-cert-sign``, ``root-no-subject``, ``root-not-valid-now``, ``weak-key``, ``key-algorithm-not-allowed``.
    """
    public_key, _ = algorithms.load_public_key(info.spki)
    weak_keys.check_public_key(public_key, small_exponent=True)
    if not info.is_self_issued:
        raise _invalid_root("not-self-signed", f'It was issued by "{info.issuer}".', "Upload the root of the chain.")
    _require_self_signed(info)
    if not info.is_ca:
        raise _invalid_root("not-a-ca", "Its basic constraints do not say that it is a CA.")
    if info.key_usage is not None and "keyCertSign" not in info.key_usage:
        raise _invalid_root("no-cert-sign", "Its key usage does not include keyCertSign.")
    if info.subject.is_empty:
        raise _invalid_root("no-subject", "It has no subject.")
    if not info.not_before <= now <= info.not_after:
        raise _invalid_root("not-valid-now", f"It is valid from {info.not_before} to {info.not_after}.")


def root_warnings(info: CertificateInfo) -> tuple[str, ...]:
    """What is out of date about a root that :func:`check_root_certificate` accepts; a sentence each."""
    found = []
    name = _hash_name(info)
    if name in _DISTRUSTED_HASHES:
        found.append(
            f"It signed itself with {_DISTRUSTED_HASHES[name]}. That is harmless in a root, whose own signature nobody "
            "relies on; some programs still refuse it."
        )
    key, _ = algorithms.load_public_key(info.spki)
    if isinstance(key, rsa.RSAPublicKey) and (exponent := key.public_numbers().e) < algorithms.RSA_PUBLIC_EXPONENT:
        found.append(f"Its RSA public exponent is {exponent}; some programs accept 65537 and larger ones only.")
    return tuple(found)


_DISTRUSTED_HASHES = {"md5": "MD5", "sha1": "SHA-1", "sha224": "SHA-224"}


def _require_self_signed(info: CertificateInfo) -> None:
    try:
        certificate = pyca.load_der_x509_certificate(info.der)
        key: Any = certificate.public_key()
        hash_algorithm = certificate.signature_hash_algorithm
        if isinstance(key, rsa.RSAPublicKey) and hash_algorithm is not None:
            # None stands for algorithms that are known but distrusted, such as md5WithRSAEncryption.
            scheme = certificate.signature_algorithm_parameters or padding.PKCS1v15()
            key.verify(info.signature, info.tbs, scheme, hash_algorithm)  # type: ignore[arg-type]
        elif isinstance(key, ec.EllipticCurvePublicKey) and hash_algorithm is not None:
            key.verify(info.signature, info.tbs, ec.ECDSA(hash_algorithm))
        else:
            key.verify(info.signature, info.tbs)
    except (UnsupportedAlgorithm, ValueError):
        raise _invalid_root(
            "signature-unsupported",
            f"It is signed with the algorithm {info.signature_oid}, which cannot be verified here.",
            "Use a certificate of the same root that is signed with SHA-256.",
        ) from None
    except (InvalidSignature, TypeError):  # TypeError: the algorithm is for another kind of key
        raise _invalid_root("not-self-signed", "Its signature is not valid under its own key.") from None


def _hash_name(info: CertificateInfo) -> str | None:
    try:
        found = pyca.load_der_x509_certificate(info.der).signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError):
        return None
    return found.name if found else None


def _require_ca(info: CertificateInfo) -> None:
    if not info.is_ca:
        raise _refused("not-a-ca", "The certificate is not a CA certificate.", "Sign it with CA:TRUE.")
    if info.key_usage is None or "keyCertSign" not in info.key_usage:
        raise _refused("no-cert-sign", "The key usage does not include keyCertSign.", "Sign it with keyCertSign.")


def _require_valid(info: CertificateInfo, now: datetime) -> None:
    if not info.not_before <= now <= info.not_after:
        raise _refused(
            "not-valid-now",
            f"The certificate is valid from {info.not_before} to {info.not_after}, which does not include now.",
            "Have it signed again with the right dates, and check both clocks.",
        )


def _refused(code: str, detail: str, remedy: str | None = None) -> Refused:
    return Refused(detail, code=f"ca-certificate-{code}", remedy=remedy)


def _invalid_root(code: str, detail: str, remedy: str | None = None) -> InvalidInput:
    return InvalidInput(f"The certificate cannot be a root. {detail}", code=f"root-{code}", remedy=remedy)
