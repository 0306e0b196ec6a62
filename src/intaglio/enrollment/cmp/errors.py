"""Refusals in CMP's own terms, and the one place where every other becomes one. Source: RFC 9810 section 5.2.3."""

from __future__ import annotations

from typing import Final

from intaglio.asn1.cmp import Failure, Status, StatusInfo
from intaglio.core import errors
from intaglio.core.errors import IntaglioError, Refused


class CmpRefusal(Refused):
    """A message that is not granted. ``failure`` is the bit of PKIFailureInfo; ``detail`` goes to the client."""

    default_code = "cmp-refused"

    def __init__(self, failure: Failure, detail: str, *, remedy: str | None = None) -> None:
        super().__init__(detail, remedy=remedy, extra={"failInfo": failure.label})
        self.failure = failure


_BY_CODE: Final[dict[str, Failure]] = {
    "invalid-der": Failure.BAD_DATA_FORMAT,
    "csr-unparsable": Failure.BAD_DATA_FORMAT,
    "proof-of-possession-failed": Failure.BAD_POP,
    "key-algorithm-not-allowed": Failure.BAD_ALG,
    "invalid-public-key": Failure.BAD_CERT_TEMPLATE,
    "weak-key": Failure.BAD_CERT_TEMPLATE,
    "extension-not-allowed": Failure.UNACCEPTED_EXTENSION,
    "already-revoked": Failure.CERT_REVOKED,
    "already-in-state": Failure.CERT_REVOKED,
    "certificate-unknown": Failure.BAD_CERT_ID,
    "request-rejected": Failure.NOT_AUTHORIZED,
    "request-key-reused": Failure.TRANSACTION_ID_IN_USE,
}
_BY_CLASS: Final[tuple[tuple[type[IntaglioError], Failure], ...]] = (
    (errors.InvalidInput, Failure.BAD_CERT_TEMPLATE),
    (errors.Unauthenticated, Failure.BAD_MESSAGE_CHECK),
    (errors.Forbidden, Failure.NOT_AUTHORIZED),
    (errors.NotFound, Failure.BAD_REQUEST),
    (errors.StateConflict, Failure.BAD_REQUEST),
    (errors.TooLarge, Failure.BAD_DATA_FORMAT),
    (errors.Refused, Failure.BAD_CERT_TEMPLATE),
    (errors.RateLimited, Failure.SYSTEM_UNAVAIL),
    (errors.NotSupported, Failure.BAD_REQUEST),
    (errors.Unavailable, Failure.SYSTEM_UNAVAIL),
    (errors.TimedOut, Failure.SYSTEM_UNAVAIL),
)
_LONGEST_TEXT: Final = 500


def failure_of(error: IntaglioError) -> Failure:
    """The failure bit that says best what an error is about."""
    if isinstance(error, CmpRefusal):
        return error.failure
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    return next((failure for kind, failure in _BY_CLASS if isinstance(error, kind)), Failure.SYSTEM_FAILURE)


def rejection(error: IntaglioError) -> StatusInfo:
    """The PKIStatusInfo of a refusal: what was wrong, and what to do."""
    text = " ".join(part for part in (error.detail, error.remedy) if part)
    return StatusInfo(Status.REJECTION, (text[:_LONGEST_TEXT],), frozenset({failure_of(error)}))
