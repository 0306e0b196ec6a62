"""From the house's errors to those of SCEP: a failInfo in a signed answer, or a status of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from intaglio.core.errors import (
    IntaglioError,
    InvalidInput,
    NotFound,
    NotSupported,
    RateLimited,
    TimedOut,
    TooLarge,
    Unavailable,
)
from intaglio.enrollment.scep.messages import FailInfo

#: What says more than its class. Everything else that is wrong with a request is badRequest.
_BY_CODE: Final[Mapping[str, FailInfo]] = {
    "cms-algorithm-not-allowed": FailInfo.BAD_ALG,
    "key-algorithm-not-allowed": FailInfo.BAD_ALG,
    "weak-key": FailInfo.BAD_ALG,
    "recipient-key-unfit": FailInfo.BAD_ALG,
    "cms-signature-invalid": FailInfo.BAD_MESSAGE_CHECK,
    "cms-unparsable": FailInfo.BAD_MESSAGE_CHECK,
    "cms-wrong-recipient": FailInfo.BAD_MESSAGE_CHECK,
    "certificate-unparsable": FailInfo.BAD_MESSAGE_CHECK,
    "scep-content-unreadable": FailInfo.BAD_MESSAGE_CHECK,
    "proof-of-possession-failed": FailInfo.BAD_MESSAGE_CHECK,
    "scep-time-off": FailInfo.BAD_TIME,
    "scep-certificate-unknown": FailInfo.BAD_CERT_ID,
    "certificate-unknown": FailInfo.BAD_CERT_ID,
    "request-unknown": FailInfo.BAD_CERT_ID,
}
#: What passes by itself: the client is told by HTTP to come again, for a failInfo would end its transaction.
_PASSING: Final = (RateLimited, TimedOut, Unavailable)


def is_passing(error: IntaglioError) -> bool:
    """Whether the same message may succeed later."""
    return isinstance(error, _PASSING)


def fail_info(error: IntaglioError) -> FailInfo:
    """The failInfo of a refusal. Source: RFC 8894 section 3.2.1.4."""
    return _BY_CODE.get(error.code, FailInfo.BAD_REQUEST)


def content_unreadable() -> InvalidInput:
    """The refusal of a message whose content cannot be decrypted, cannot be read, or is not signed by its own key.

    One error for all, in the same words: whoever could tell them apart could find out by trial, changing what he
    overheard, what the messages of others say, and these hold challenge passwords.
    """
    return InvalidInput(
        "The message cannot be decrypted, or what is in it cannot be read.",
        code="scep-content-unreadable",
        remedy="Get the certificate of the service again (GetCACert), and encrypt for that.",
    )


def http_status(error: IntaglioError) -> int:
    """The HTTP status for what cannot be answered in a message."""
    if isinstance(error, (NotFound, NotSupported, TooLarge, RateLimited, TimedOut, Unavailable)):
        return error.status
    return error.status if error.status in (400, 403) else 400
