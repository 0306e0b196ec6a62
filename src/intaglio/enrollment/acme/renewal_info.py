"""When a certificate should be renewed (RFC 9773): a window before its end, at once when it was revoked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from intaglio.authority.certificates import StoredCertificate
from intaglio.core.clock import rfc3339
from intaglio.enrollment.acme.call import Answer
from intaglio.enrollment.acme.context import Acme
from intaglio.enrollment.acme.replacement import by_identifier
from intaglio.enrollment.values import Endpoint

#: Shares of the validity after which the window opens and closes.
_OPENS: Final = 2 / 3
_CLOSES: Final = 0.7
_RETRY_AFTER: Final = 6 * 3600  # seconds


async def renewal_info(acme: Acme, endpoint: Endpoint, identifier: str) -> Answer:
    """What ``GET renewalInfo/{identifier}`` says. Raises Malformed, ResourceUnknown."""
    ca = (await acme.enrollment.gateway.snapshot()).ca(endpoint.ca)
    async with acme.enrollment.database.read() as view:
        certificate = await by_identifier(view, ca, identifier)
        document: dict[str, Any] = {"suggestedWindow": window(certificate, view.now)}
    return Answer(document, headers={"Retry-After": str(_RETRY_AFTER)})


def window(certificate: StoredCertificate, now: datetime) -> dict[str, str]:
    """The suggested window; one that has passed means at once (RFC 9773 section 4.2)."""
    if certificate.status != "valid":
        return {"start": rfc3339(now - timedelta(hours=1)), "end": rfc3339(now - timedelta(minutes=30))}
    lifetime = certificate.not_after - certificate.not_before
    return {
        "start": rfc3339(certificate.not_before + lifetime * _OPENS),
        "end": rfc3339(certificate.not_before + lifetime * _CLOSES),
    }
