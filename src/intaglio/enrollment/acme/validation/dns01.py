"""The challenge dns-01 (RFC 8555 section 8.4)."""

from __future__ import annotations

import base64

from intaglio.enrollment.acme.validation.values import Target, ValidationFailed
from intaglio.transport.resolver import LookupFailed, Resolver

_PREFIX = "_acme-challenge."
_SHOWN = 3


async def prove(resolver: Resolver, target: Target) -> None:
    """Return when one of the TXT records is the digest of the key authorization; aliases are followed.

    Raises ValidationFailed (malformed, dns, unauthorized).
    """
    if target.kind != "dns":
        raise ValidationFailed("malformed", "dns-01 proves names of the DNS only (RFC 8738 section 7).")
    name = _PREFIX + target.value
    expected = base64.urlsafe_b64encode(target.digest).rstrip(b"=")
    try:
        found = await resolver.txt(name)
    except LookupFailed as error:
        raise ValidationFailed("dns", f"There is no reliable answer: {error}.") from error
    if expected in found:
        return
    remedy = f"Publish: {name}. TXT {expected.decode()}, and let all DNS servers of the zone have it."
    if not found:
        raise ValidationFailed("unauthorized", f"{name} has no TXT record.", remedy=remedy)
    shown = ", ".join(repr(each[:80].decode("ascii", "replace")) for each in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise ValidationFailed("unauthorized", f"{name} has TXT {shown}{more}, not the expected one.", remedy=remedy)
