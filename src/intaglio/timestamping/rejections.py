"""Why a timestamp is refused, as RFC 3161 says it. Source: RFC 3161 section 2.4.2."""

from __future__ import annotations

from enum import IntEnum

from intaglio.core.errors import Refused


class Failure(IntEnum):
    """PKIFailureInfo: the bit that is set."""

    BAD_ALGORITHM = 0
    BAD_REQUEST = 2
    BAD_DATA_FORMAT = 5
    TIME_NOT_AVAILABLE = 14
    UNACCEPTED_POLICY = 15
    UNACCEPTED_EXTENSION = 16
    INFORMATION_NOT_AVAILABLE = 17
    SYSTEM_FAILURE = 25

    @property
    def label(self) -> str:
        """The name it has in logs and metrics."""
        return _LABELS[self]


_LABELS = {
    Failure.BAD_ALGORITHM: "badAlg",
    Failure.BAD_REQUEST: "badRequest",
    Failure.BAD_DATA_FORMAT: "badDataFormat",
    Failure.TIME_NOT_AVAILABLE: "timeNotAvailable",
    Failure.UNACCEPTED_POLICY: "unacceptedPolicy",
    Failure.UNACCEPTED_EXTENSION: "unacceptedExtension",
    Failure.INFORMATION_NOT_AVAILABLE: "addInfoNotAvailable",
    Failure.SYSTEM_FAILURE: "systemFailure",
}


class Rejection(Refused):
    """A request that gets no token. ``detail`` goes to the client as it is; ``cause`` only into the log."""

    default_code = "timestamp-refused"

    def __init__(self, failure: Failure, detail: str, *, cause: str = "") -> None:
        super().__init__(detail)
        self.failure = failure
        self.cause = cause or detail
