"""Status and properties of a CA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intaglio.authority.directory import CaView
from intaglio.core.clock import rfc3339
from intaglio.core.errors import InvalidInput
from intaglio.gateway.callers import Caller
from intaglio.gateway.connector import Connector
from intaglio.gateway.service import Gateway
from intaglio.x509 import extensions as x509

_ENCRYPTION_USAGES = frozenset({"keyEncipherment", "dataEncipherment", "keyAgreement"})
_SIGNING_USAGES = frozenset({"digitalSignature", "nonRepudiation"})

PROPERTIES = (
    "defaultPolicyOIDs",
    "encryptionPolicyOIDs",
    "verificationPolicyOIDs",
    "nextCrlUpdate",
    "crlNumber",
    "crlDistributionPoints",
    "keyAlgorithm",
    "notAfter",
)


async def ca_status(gateway: Gateway, caller: Caller, ca_id: str) -> dict[str, Any]:
    """UP when the CA can sign now, else DOWN with the reason. Raises Unauthenticated, Forbidden, NotFound."""
    access, connector = await gateway.access(caller, ca_id)
    outage = await connector.outage(access.ca)
    if outage is None:
        return {"type": "CAStatusResponse", "status": "UP"}
    return {"type": "CAStatusResponse", "status": "DOWN", "message": {"code": "ca-down", "message": outage}}


async def ca_properties(gateway: Gateway, caller: Caller, ca_id: str, names: Sequence[str]) -> dict[str, Any]:
    """The named properties of a CA, or all of them. Raises InvalidInput for an unknown name."""
    access, connector = await gateway.access(caller, ca_id)
    unknown = [name for name in names if name not in PROPERTIES]
    if unknown:
        raise InvalidInput(
            f'A CA has no property "{unknown[0][:60]}".',
            code="request-malformed",
            remedy=f"Ask for: {', '.join(PROPERTIES)}.",
            target="fields",
        )
    values = await _properties(access.ca, connector)
    chosen = {name: values[name] for name in names or PROPERTIES}
    return {"type": "CAPropertiesResponse", "CAPropertiesInformation": {"properties": chosen}}


async def _properties(ca: CaView, connector: Connector) -> dict[str, Any]:
    certified = bool(ca.chain)
    crl = await connector.crl_facts(ca) if certified else None
    return {
        "defaultPolicyOIDs": _own_policies(ca) if certified else [],
        "encryptionPolicyOIDs": _policies_of_profiles(ca, _ENCRYPTION_USAGES),
        "verificationPolicyOIDs": _policies_of_profiles(ca, _SIGNING_USAGES),
        "nextCrlUpdate": "" if crl is None else rfc3339(crl.next_update),
        "crlNumber": "" if crl is None else str(crl.number),
        "crlDistributionPoints": [ca.urls.crl(ca.generation)] if certified and ca.options.crl_interval else [],
        "keyAlgorithm": str(ca.algorithm or ""),
        "notAfter": rfc3339(ca.certificate.not_after) if certified else "",
    }


def _own_policies(ca: CaView) -> list[str]:
    """What the CA certificate itself permits; none stated means any (RFC 5280 section 4.2.1.4)."""
    extension = ca.certificate.extension(x509.CERTIFICATE_POLICIES)
    return list(x509.read_certificate_policies(extension.value)) if extension else []


def _policies_of_profiles(ca: CaView, usages: frozenset[str]) -> list[str]:
    found: dict[str, None] = {}
    for profile in ca.profiles:
        if usages & set(profile.key_usage):
            found.update(dict.fromkeys(profile.certificate_policies))
    return list(found)
