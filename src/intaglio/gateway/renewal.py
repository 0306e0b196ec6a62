"""Renewal and reissue: a new certificate made from a recorded one, linked to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority.certificates import StoredCertificate
from intaglio.authority.directory import Snapshot
from intaglio.authority.issuance import Order
from intaglio.core.errors import InvalidInput, Refused
from intaglio.gateway.callers import Caller
from intaglio.gateway.enrollment import Enrollment
from intaglio.gateway.formats import encode
from intaglio.gateway.keys import check_key_size
from intaglio.gateway.pointers import OF_RENEWALS, pointing
from intaglio.gateway.roles import GatewayPermission
from intaglio.gateway.schemas import Action, ActionType, Format
from intaglio.gateway.service import Gateway
from intaglio.gateway.validity import parse_validity_period
from intaglio.profiles.engine import IssuanceInput, RequestedValidity
from intaglio.profiles.model import Channel
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.requests import CertificateRequest, parse_request

_VALIDITY = "/action/validityPeriod"


async def renew(
    gateway: Gateway, caller: Caller, ca_id: str, serial: bytes, action: Action, *, channel: Channel = "gateway-api"
) -> Enrollment:
    """Issue a certificate with subject and names of a recorded one, byte for byte, under the profile as it is now.

    RenewAction keeps the key and starts a new validity. ReissueAction certifies the key of ``action.csr``, or the same
    key when there is none, until the end of the old certificate. Both obey ``action.validityPeriod``. The old
    certificate stays as it is. Raises StateConflict when it is revoked or on hold, up to the instant at which the new
    one is recorded, and what an enrolment raises.
    """
    access, connector = await gateway.access(caller, ca_id)
    access.role.require(GatewayPermission.MANAGE, action.type)
    connector.capabilities.require_action(action.type, subject=False)
    if action.requiredFormat.format is Format.PKCS12:
        raise InvalidInput(
            "The private key of the certificate is not here, so it cannot be put into a PKCS12.",
            code="format-unsupported",
            remedy="Ask for X509, PEM or PKCS7.",
            target="/action/requiredFormat/format",
        )
    old = await connector.certificate(access.ca, serial)
    old.require_renewable()
    draft = _Renewal(gateway, caller, ca_id, action, old, channel)
    with pointing(OF_RENEWALS):
        issued = await gateway.issue(caller, connector, draft.decide, None)
    body = await encode(issued.der, issued.chain, action.requiredFormat, action.includeCa)
    warnings = (*draft.warnings, *issued.warnings)
    return Enrollment(issued, action.requiredFormat.format, body, bool(action.includeCa), warnings)


@dataclass
class _Renewal:
    gateway: Gateway
    caller: Caller
    ca_id: str
    action: Action
    old: StoredCertificate
    channel: Channel
    warnings: list[str] = field(default_factory=list)

    def decide(self, snapshot: Snapshot) -> Order:
        """The order under a configuration; raises the refusal."""
        access = self.caller.access(snapshot, self.ca_id)
        access.role.require(GatewayPermission.MANAGE, self.action.type)
        access.role.require(GatewayPermission.ENROLL_CSR, self.action.type)
        if self.action.validityPeriod is not None:
            access.role.require(GatewayPermission.SHORTEN_VALIDITY, _VALIDITY)
        ca = access.ca
        profile = ca.profile(self.old.profile)
        spki, algorithm = self._key
        overall = self.gateway.settings(snapshot).minimum_keysize
        sizes = {"the gateway": overall, f"CA {ca.full_id}": ca.options.minimum_keysize}
        self.warnings = check_key_size(algorithm, sizes)
        asked = self.action.validityPeriod is not None
        order = IssuanceInput(
            subject=self._info.subject,
            spki=spki,
            key_algorithm=algorithm,
            channel=self.channel,
            mode="csr" if "csr" in profile.issuance_modes else profile.issuance_modes[0],
            san=self._info.san,
            extensions=tuple(e for e in self._info.extensions if e.oid in profile.request_extension_oids),
            validity=self._validity,
            # The subject was built from them when it was first issued.
            subject_variables=tuple((name, "as issued") for name in profile.required_variables),
            on_unlisted="drop",
            shorten_only=asked and not access.role.may(GatewayPermission.EXPLICIT_VALIDITY),
            clamp_validity=not asked,
        )
        return Order(ca, profile, order, self.old.id, dict(self.old.properties), renewal=True)

    @cached_property
    def _info(self) -> CertificateInfo:
        return read_certificate(self.old.der)

    @cached_property
    def _request(self) -> CertificateRequest | None:
        if self.action.csr is None:
            return None
        if self.action.type is ActionType.RENEW:
            raise InvalidInput(
                "RenewAction keeps the key of the certificate.",
                code="request-malformed",
                remedy="Use ReissueAction to certify another key, or leave the csr out.",
                target="/action/csr",
            )
        try:
            return parse_request(self.action.csr)
        except InvalidInput as error:
            raise InvalidInput(error.detail, code=error.code, remedy=error.remedy, target="/action/csr") from None

    @cached_property
    def _key(self) -> tuple[bytes, KeyAlgorithm]:
        if self._request is not None:
            return self._request.spki, self._request.key_algorithm
        algorithm = self._info.key_algorithm
        if algorithm is None:
            raise Refused("The key of the certificate is of a type no longer accepted.", code="key-type-not-allowed")
        return self._info.spki, algorithm

    @cached_property
    def _validity(self) -> RequestedValidity | None:
        if self.action.validityPeriod is not None:
            return parse_validity_period(self.action.validityPeriod, target=_VALIDITY)
        if self.action.type is ActionType.REISSUE:
            return RequestedValidity(not_after=self.old.not_after)
        return None
