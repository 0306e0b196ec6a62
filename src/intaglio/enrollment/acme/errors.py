"""The error types of ACME, and the one place where refusals of the house become problem documents.

Source: RFC 8555 section 6.7 (types, subproblems), RFC 9773 section 7.4, draft-ietf-acme-profiles section 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from intaglio.core.errors import (
    Forbidden,
    IntaglioError,
    InvalidInput,
    NotFound,
    RateLimited,
    Refused,
    StateConflict,
    TooLarge,
    Unauthenticated,
)

PREFIX: Final = "urn:ietf:params:acme:error:"
MEDIA_TYPE: Final = "application/problem+json"


class AcmeProblem(IntaglioError):
    """A refusal with an ACME type of its own.

    ``subproblems`` name what is wrong with each of several identifiers; ``headers`` go into the answer; ``instance`` is
    where a person may do what is needed.
    """

    problem: ClassVar[str] = "serverInternal"

    def __init__(
        self,
        detail: str,
        *,
        remedy: str | None = None,
        retry_after: int | None = None,
        subproblems: Sequence[Mapping[str, Any]] = (),
        instance: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail, remedy=remedy, retry_after=retry_after)
        self.subproblems = tuple(subproblems)
        self.instance = instance
        self.headers = dict(headers or {})


class Malformed(AcmeProblem, InvalidInput):
    """The message breaks the standard."""

    problem = "malformed"
    default_code = "acme-malformed"


class BadNonce(AcmeProblem, InvalidInput):
    """The nonce is not one of ours, too old, or was used."""

    problem = "badNonce"
    default_code = "acme-bad-nonce"
    default_remedy = "Repeat the request with the nonce of this answer."


class BadSignatureAlgorithm(AcmeProblem, InvalidInput):
    """The signature algorithm is not accepted; the answer lists those that are."""

    problem = "badSignatureAlgorithm"
    default_code = "acme-bad-signature-algorithm"


class BadPublicKey(AcmeProblem, InvalidInput):
    """The key of an account is not accepted."""

    problem = "badPublicKey"
    default_code = "acme-bad-public-key"


class BadCsr(AcmeProblem, InvalidInput):
    """The certificate request is not what the order asks for, or not acceptable."""

    problem = "badCSR"
    default_code = "acme-bad-csr"


class AccountDoesNotExist(AcmeProblem, InvalidInput):
    """There is no account with this key or URL."""

    problem = "accountDoesNotExist"
    default_code = "acme-account-unknown"
    default_remedy = "Register the key with newAccount."


class InvalidContact(AcmeProblem, InvalidInput):
    """A contact is not a good URL."""

    problem = "invalidContact"
    default_code = "acme-invalid-contact"


class UnsupportedContact(AcmeProblem, InvalidInput):
    """A contact is of a kind that is not used here."""

    problem = "unsupportedContact"
    default_code = "acme-unsupported-contact"
    default_remedy = "Give e-mail addresses (mailto:)."


class InvalidProfile(AcmeProblem, InvalidInput):
    """The profile asked for is not offered."""

    problem = "invalidProfile"
    default_code = "acme-invalid-profile"


class UnsupportedIdentifier(AcmeProblem, InvalidInput):
    """The identifier is of a type that is not certified here."""

    problem = "unsupportedIdentifier"
    default_code = "acme-unsupported-identifier"


class RejectedIdentifier(AcmeProblem, Forbidden):
    """The policy of the endpoint or of the account does not permit the identifier."""

    problem = "rejectedIdentifier"
    default_code = "acme-rejected-identifier"


class Unauthorized(AcmeProblem, Forbidden):
    """The signer may not do this."""

    problem = "unauthorized"
    default_code = "acme-unauthorized"


class ExternalAccountRequired(AcmeProblem, Forbidden):
    """An account needs to be bound to one that exists elsewhere."""

    problem = "externalAccountRequired"
    default_code = "acme-external-account-required"
    default_remedy = "Ask an administrator for a key identifier and an HMAC key (intaglio enroll credential create)."


class UserActionRequired(AcmeProblem, Forbidden):
    """Somebody has to read and agree to something first."""

    problem = "userActionRequired"
    default_code = "acme-user-action-required"


class OrderNotReady(AcmeProblem, Forbidden):
    """An order is finalized while it waits for authorizations, or again."""

    problem = "orderNotReady"
    default_code = "acme-order-not-ready"


class BadRevocationReason(AcmeProblem, InvalidInput):
    """The reason is not one that subscribers may give."""

    problem = "badRevocationReason"
    default_code = "acme-bad-revocation-reason"


class AlreadyRevoked(AcmeProblem, InvalidInput):
    """The certificate was revoked before."""

    problem = "alreadyRevoked"
    default_code = "acme-already-revoked"


class AlreadyReplaced(AcmeProblem, StateConflict):
    """Another order has announced to replace the same certificate (RFC 9773 section 5)."""

    problem = "alreadyReplaced"
    default_code = "acme-already-replaced"


class KeyInUse(AcmeProblem, StateConflict):
    """Another account has this key (RFC 8555 section 7.3.5)."""

    problem = "malformed"
    default_code = "acme-key-in-use"


class ResourceUnknown(AcmeProblem, NotFound):
    """There is no such account, order, authorization or certificate for this account."""

    problem = "malformed"
    default_code = "acme-resource-unknown"


class NotHere(AcmeProblem, InvalidInput):
    """The resource exists and does not support the method, or the media type is another one."""

    problem = "malformed"
    default_code = "acme-method-not-allowed"
    status = 405


class WrongMediaType(AcmeProblem, InvalidInput):
    """A body that is not said to be a JWS (RFC 8555 section 6.2)."""

    problem = "malformed"
    default_code = "acme-media-type"
    status = 415


#: Refusals about the request for a certificate, by the stable code of the floor that says it.
_CSR_CODES: Final = frozenset(
    {
        *("csr-unparsable", "proof-of-possession-failed", "weak-key", "key-algorithm-not-allowed", "too-many-names"),
        *("key-type-not-allowed", "key-too-small", "invalid-public-key", "extension-not-allowed"),
        *("forbidden-extension", "eku-not-allowed", "subject-required", "subject-attribute-required", "san-required"),
        *("subject-template-unresolved", "subject-names-ambiguous", "subject-and-san-empty"),
        *("invalid-name", "invalid-general-name"),
    }
)

#: The remaining ones by class; the first that fits.
_TYPES: Final[tuple[tuple[type[IntaglioError], str], ...]] = (
    (RateLimited, "rateLimited"),
    (Unauthenticated, "unauthorized"),
    (Forbidden, "unauthorized"),
    (Refused, "rejectedIdentifier"),
    (InvalidInput, "malformed"),
    (TooLarge, "malformed"),
    (NotFound, "malformed"),
    (StateConflict, "malformed"),
)


def problem_type(error: IntaglioError) -> str:
    """The ACME error type (without its prefix) that a refusal is answered with."""
    if isinstance(error, AcmeProblem):
        return error.problem
    if (named := getattr(error, "problem", None)) is not None:  # a validation that failed
        return str(named)
    if error.code in _CSR_CODES:
        return "badCSR"
    if error.code == "request-rejected":
        return "unauthorized"
    return next((name for kind, name in _TYPES if isinstance(error, kind)), "serverInternal")


def problem(error: IntaglioError) -> dict[str, Any]:
    """The problem document (RFC 9457) of a refusal."""
    document: dict[str, Any] = {
        "type": PREFIX + problem_type(error),
        "detail": str(error),
        "status": error.status,
    }
    if isinstance(error, AcmeProblem):
        if error.subproblems:
            document["subproblems"] = list(error.subproblems)
        if error.instance is not None:
            document["instance"] = error.instance
        if isinstance(error, BadSignatureAlgorithm):
            from intaglio.enrollment.acme.jws import ALGORITHMS

            document["algorithms"] = sorted(ALGORITHMS)
    return document


def subproblem(error: AcmeProblem, kind: str, value: str) -> dict[str, Any]:
    """What is wrong with one identifier (RFC 8555 section 6.7.1)."""
    return {
        "type": PREFIX + error.problem,
        "detail": error.detail,
        "identifier": {"type": kind, "value": value},
    }
