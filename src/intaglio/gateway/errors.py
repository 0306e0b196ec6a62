"""The error catalogue of the gateway API, and the one table that translates the house's errors into it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from intaglio.core.errors import (
    Forbidden,
    IntaglioError,
    InvalidInput,
    NotFound,
    NotSupported,
    RateLimited,
    Refused,
    StateConflict,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
)


@dataclass(frozen=True)
class CatalogueEntry:
    """One error code as clients see it: ``status`` is the HTTP status it is always sent with."""

    code: str
    status: int
    meaning: str


#: Every code this API answers with. A code is never reused and never changes its status.
CATALOGUE: Final[Mapping[str, CatalogueEntry]] = {
    code: CatalogueEntry(code, status, meaning)
    for code, status, meaning in (
        ("cagw-4001", 400, "The request is malformed: JSON, type, parameter or syntax. target is a JSON pointer."),
        ("cagw-4002", 400, "The certificate request cannot be read, or its proof of possession fails."),
        ("cagw-4003", 400, "A required subject variable is missing."),
        ("cagw-4004", 400, "A required subject alternative name is missing."),
        ("cagw-4005", 400, "The subject cannot be built from what the request brings."),
        ("cagw-4006", 400, "The key is below the key-size policy or of an algorithm that is not accepted."),
        ("cagw-4007", 400, "A required request property is missing."),
        ("cagw-4008", 400, "The format is not supported here, or its protection is missing."),
        ("cagw-4009", 400, "The profile or a standard forbids what the request asks for."),
        ("cagw-4010", 401, "There is no client certificate, or it was not issued by a client CA of this platform."),
        ("cagw-4011", 401, "The client certificate is revoked or expired."),
        ("cagw-4013", 403, "The subject of the client certificate is not a configured client."),
        ("cagw-4014", 403, "The caller's role does not permit this field or action. target names it."),
        ("cagw-4015", 403, "The request asks for an extension that it may not have."),
        ("cagw-4016", 403, "The CAA records of a domain do not permit issuing."),
        ("cagw-4017", 404, "There is no such resource."),
        ("cagw-4018", 404, "The CA does not exist, or is not visible to the caller."),
        ("cagw-4019", 404, "The CA offers no such profile."),
        ("cagw-4020", 404, "The certificate, subject or enrolment does not exist."),
        ("cagw-4021", 405, "The resource does not support this method. The Allow header names those it does."),
        ("cagw-4022", 415, "The body must be JSON."),
        ("cagw-4023", 413, "The request is too large."),
        ("cagw-4025", 409, "The state of the certificate or CA does not allow the action."),
        ("cagw-4026", 409, "The Idempotency-Key was used for another request, or its private key was handed out."),
        ("cagw-4027", 403, "The validity goes beyond what the profile, the role or the CA's own end permits."),
        ("cagw-4029", 429, "Too many requests. Retry-After says when to try again."),
        ("cagw-5000", 500, "The gateway failed. Quote the correlation id when you report it."),
        ("cagw-5001", 502, "The CA answered with an error."),
        ("cagw-5002", 503, "The CA, or something it depends on, cannot be reached. Try again later."),
        ("cagw-5003", 504, "The CA did not answer in time."),
        ("cagw-5004", 502, "Not enough signed certificate timestamps could be obtained."),
        ("cagw-5010", 501, "This CA does not have the capability."),
    )
}

#: Stable codes of the floors below -> catalogue codes. What is not listed is translated by its class.
TRANSLATION: Final[Mapping[str, str]] = {
    "request-malformed": "cagw-4001",
    "validity-unreadable": "cagw-4001",
    "validity-in-the-past": "cagw-4001",
    "validity-ambiguous": "cagw-4001",
    "csr-unparsable": "cagw-4002",
    "csr-missing": "cagw-4002",
    "proof-of-possession-failed": "cagw-4002",
    "subject-variable-required": "cagw-4003",
    "san-required": "cagw-4004",
    "property-required": "cagw-4007",
    "invalid-name": "cagw-4005",
    "subject-attribute-required": "cagw-4005",
    "subject-template-unresolved": "cagw-4005",
    "subject-names-ambiguous": "cagw-4005",
    "subject-and-san-empty": "cagw-4005",
    "subject-is-issuer": "cagw-4005",
    "subject-required": "cagw-4005",
    "key-type-not-allowed": "cagw-4006",
    "key-algorithm-not-allowed": "cagw-4006",
    "key-too-small": "cagw-4006",
    "weak-key": "cagw-4006",
    "invalid-public-key": "cagw-4006",
    "mode-not-offered": "cagw-4008",
    "format-unsupported": "cagw-4008",
    "protection-required": "cagw-4008",
    "client-certificate-required": "cagw-4010",
    "client-certificate-untrusted": "cagw-4010",
    "client-certificate-revoked": "cagw-4011",
    "client-certificate-expired": "cagw-4011",
    "client-unknown": "cagw-4013",
    "role-lacks-permission": "cagw-4014",
    "forbidden-extension": "cagw-4015",
    "extension-not-allowed": "cagw-4015",
    "eku-not-allowed": "cagw-4015",
    "route-unknown": "cagw-4017",
    "ca-unknown": "cagw-4018",
    "profile-unknown": "cagw-4019",
    "method-not-allowed": "cagw-4021",
    "media-type-unsupported": "cagw-4022",
    "idempotency-key-reused": "cagw-4026",
    "private-key-handed-out": "cagw-4026",
    "validity-beyond-issuer": "cagw-4027",
    "validity-beyond-profile": "cagw-4027",
    "validity-backdated": "cagw-4027",
    "validity-fixed": "cagw-4027",
}

#: First match wins; order from specific to general.
_BY_CLASS: Final[tuple[tuple[type[IntaglioError], str], ...]] = (
    (InvalidInput, "cagw-4001"),
    (Unauthenticated, "cagw-4010"),
    (Forbidden, "cagw-4014"),
    (NotFound, "cagw-4020"),
    (StateConflict, "cagw-4025"),
    (TooLarge, "cagw-4023"),
    (Refused, "cagw-4009"),
    (RateLimited, "cagw-4029"),
    (NotSupported, "cagw-5010"),
    (Unavailable, "cagw-5002"),
    (TimedOut, "cagw-5003"),
)


def catalogue_entry(error: IntaglioError) -> CatalogueEntry:
    """The catalogue entry an error is answered with."""
    code = TRANSLATION.get(error.code)
    if code is None:
        code = next((code for kind, code in _BY_CLASS if isinstance(error, kind)), "cagw-5000")
    return CATALOGUE[code]


def error_body(error: IntaglioError, entry: CatalogueEntry) -> dict[str, Any]:
    """``ErrorResponse``: the message is one sentence; ``details`` add rule, remedy and further faulty fields."""
    body: dict[str, Any] = {"code": entry.code, "message": error.detail}
    if error.target is not None:
        body["target"] = error.target
    if "value" in error.extra:
        body["value"] = error.extra["value"]
    rule: dict[str, Any] = {"code": error.code, "message": error.remedy or entry.meaning}
    if step := error.extra.get("step"):
        rule["step"] = step
    fields = [{"code": entry.code, "target": target, "message": message} for target, message in error.fields]
    body["details"] = [rule, *fields]
    return {"type": "ErrorResponse", "error": body}


def error_json(error: IntaglioError) -> tuple[int, bytes]:
    """HTTP status and finished body."""
    entry = catalogue_entry(error)
    return entry.status, json.dumps(error_body(error, entry), separators=(",", ":")).encode()
