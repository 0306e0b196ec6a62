"""What a certificate request has to be before a session is spent on it. Pure: values in, values or refusals out.

The subject is exactly the identity, the subject alternative name exactly the e-mail address, and challengePassword is
the nonce of the session, so that a request that was made for another person or session, or seen on the way, is of no
use. The certificate takes its names from the registry all the same.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from intaglio.core.errors import InvalidInput
from intaglio.mtls.enrolment.errors import csr_key_type, csr_malformed, csr_mismatch, csr_signature
from intaglio.mtls.enrolment.settings import KEYS, EnrolmentKey
from intaglio.x509.attribute_types import COMMON_NAME
from intaglio.x509.requests import CertificateRequest, parse_request

_WEAK = frozenset({"key-algorithm-not-allowed", "weak-key"})


@dataclass(frozen=True)
class Expected:
    """What a request has to say. ``email`` is empty for an identity that has none; ``keys`` are the allowed ones."""

    identity: str
    email: str
    nonce: str = field(repr=False)
    keys: Sequence[EnrolmentKey]


def read_csr(data: bytes | str, expected: Expected) -> CertificateRequest:
    """The request in PEM or base64 DER, checked.

    Raises InvalidInput with one of the codes ``csr_malformed``, ``csr_signature``, ``csr_key_type``, ``csr_mismatch``.
    """
    try:
        request = parse_request(data)
    except InvalidInput as error:
        if error.code == "proof-of-possession-failed":
            raise csr_signature() from None
        if error.code in _WEAK:
            raise csr_key_type(error.detail, error.remedy or _key_remedy(expected.keys)) from None
        raise csr_malformed(error.detail) from None
    _check_key(request, expected.keys)
    _check_subject(request, expected.identity)
    _check_names(request, expected.email)
    _check_nonce(request, expected.nonce)
    return request


def _check_key(request: CertificateRequest, allowed: Sequence[EnrolmentKey]) -> None:
    if request.key_algorithm not in {KEYS[name] for name in allowed}:
        raise csr_key_type(f"Keys of the type {request.key_algorithm.value} are not certified.", _key_remedy(allowed))


def _check_subject(request: CertificateRequest, identity: str) -> None:
    rdns = request.subject.attributes
    only = rdns[0][0] if len(rdns) == 1 and len(rdns[0]) == 1 else None
    if only is None or only.oid != COMMON_NAME or not only.is_text or only.value != identity:
        raise csr_mismatch("The subject of the request is not the identity of the session.", f"Use CN={identity}.")


def _check_names(request: CertificateRequest, email: str) -> None:
    entries = () if request.san is None else request.san.entries
    found = [(entry.type, entry.text.lower()) for entry in entries]
    wanted = [("rfc822Name", email.lower())] if email else []
    if found != wanted:
        raise csr_mismatch(
            "The subject alternative name of the request is not the e-mail address of the session.",
            f"Use email:{email} and nothing else." if email else "Leave it out.",
        )


def _check_nonce(request: CertificateRequest, nonce: str) -> None:
    given = (request.challenge_password or "").encode()
    if not hmac.compare_digest(given, nonce.encode()):
        raise csr_mismatch(
            "The challengePassword of the request is not the nonce of the session.",
            "Make a new request with the nonce of this session.",
        )


def _key_remedy(allowed: Sequence[EnrolmentKey]) -> str:
    return f"Use a key of the type {' or '.join(allowed)}."
