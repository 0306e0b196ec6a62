"""Extensions asked for in the request body."""

from __future__ import annotations

import re
from collections.abc import Sequence

from intaglio.core.errors import InvalidInput
from intaglio.gateway.schemas import RequestedExtensionBody, decode_base64
from intaglio.x509 import extensions as x509
from intaglio.x509.requests import RequestedExtension

_TARGET = "/optionalCertificateRequestDetails/extensions"
_OIDS = re.compile(r"\d+(\.\d+)+(\s*,\s*\d+(\.\d+)+)*")


def explicit_extensions(requested: Sequence[RequestedExtensionBody]) -> tuple[RequestedExtension, ...]:
    """The extensions with their values decoded; an extended key usage may also be named by dotted OIDs.

    Raises InvalidInput (``request-malformed``, also for an extension named twice).
    """
    found: dict[str, RequestedExtension] = {}
    for index, entry in enumerate(requested):
        target = f"{_TARGET}/{index}"
        if entry.oid in found:
            raise _malformed(f"The extension {entry.oid} is named twice.", target)
        found[entry.oid] = RequestedExtension(entry.oid, bool(entry.critical), _value(entry, target))
    return tuple(found.values())


def _value(entry: RequestedExtensionBody, target: str) -> bytes:
    if entry.oid == x509.EXTENDED_KEY_USAGE and _OIDS.fullmatch(entry.value.strip()):
        try:
            return x509.extended_key_usage([oid.strip() for oid in entry.value.split(",")])
        except InvalidInput as error:
            raise _malformed(error.detail, f"{target}/value") from None
    try:
        return decode_base64(entry.value)
    except ValueError:
        raise _malformed(f"The value of the extension {entry.oid} is not base64.", f"{target}/value") from None


def _malformed(detail: str, target: str) -> InvalidInput:
    return InvalidInput(
        detail,
        code="request-malformed",
        remedy="Write the base64 DER of the value; for an extended key usage a dotted OID will do.",
        target=target,
        extra={"step": "extensions"},
    )
