"""The one exception hierarchy.

Every refusal Intaglio utters is an :class:`IntaglioError`. It carries a stable ``code`` (kebab-case, documented, never
reused), the HTTP status an HTTP adapter answers with, a ``detail`` sentence saying what was wrong and where, and a
``remedy`` saying what to do. Adapters translate it once into their wire format; nothing of it may contain a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class IntaglioError(Exception):
    """Base of all refusals.

    Arguments: ``detail`` is one sentence for the caller; ``code`` overrides the class's stable code; ``remedy`` says
    what to do; ``target`` names the offending field (JSON pointer or name); ``fields`` lists (target, message) pairs
    when several inputs are wrong at once; ``extra`` holds further JSON-safe members for the answer (a blocking list,
    the time a reserved name becomes free); ``retry_after`` is in seconds.
    """

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal-error"
    default_remedy: ClassVar[str] = ""

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        remedy: str | None = None,
        target: str | None = None,
        fields: Sequence[tuple[str, str]] = (),
        extra: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.remedy = remedy if remedy is not None else self.default_remedy
        self.target = target
        self.fields = tuple(fields)
        self.extra: dict[str, Any] = dict(extra or {})
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.detail} {self.remedy}".strip()


class InvalidInput(IntaglioError):
    """The request itself is wrong: syntax, type, range, unparsable CSR."""

    status = 400
    default_code = "invalid-input"


class Unauthenticated(IntaglioError):
    """Nobody, or nobody we know, is asking."""

    status = 401
    default_code = "unauthenticated"


class Forbidden(IntaglioError):
    """The caller is known and may not do this."""

    status = 403
    default_code = "forbidden"


class NotFound(IntaglioError):
    """The object does not exist, or the caller may not know that it does."""

    status = 404
    default_code = "not-found"


class StateConflict(IntaglioError):
    """The object exists but its state does not allow the operation (duplicate, reserved, already revoked)."""

    status = 409
    default_code = "state-conflict"


class TooLarge(IntaglioError):
    """The request exceeds a limit."""

    status = 413
    default_code = "too-large"


class Refused(IntaglioError):
    """Well-formed and authorized, but policy or a standard forbids it."""

    status = 422
    default_code = "refused"


class RateLimited(IntaglioError):
    """Too many requests."""

    status = 429
    default_code = "rate-limited"


class NotSupported(IntaglioError):
    """The capability does not exist here."""

    status = 501
    default_code = "not-supported"


class Unavailable(IntaglioError):
    """A part we depend on (database, keystore, upstream) is not reachable; trying again later makes sense."""

    status = 503
    default_code = "unavailable"
    default_remedy = "Try again shortly; the service recovers by itself when the dependency returns."


class TimedOut(IntaglioError):
    """The operation did not finish in its time."""

    status = 504
    default_code = "timeout"
